//! Services of Kubernetes in a build without the feature `k8s`: there is nothing that could be asked.

use super::state::ServiceState;
use super::usage::Usage;
use super::view::{Line, LineOptions};
use crate::error::{Error, Kind, Result};
use crate::host::Ctx;
use crate::host::docker::Scaled;
use crate::model::system::Service;
use crate::model::{Effect, Span};

/// There is none.
pub(super) enum Scaling {}

impl Scaling {
    pub(super) fn effect(&self, _: &str) -> Effect {
        match *self {}
    }
}

fn absent<T>(ctx: &Ctx) -> Result<T> {
    Err(Error::new(Kind::Conflict, "this build can not speak to Kubernetes")
        .target(&ctx.system().name)
        .permanent()
        .hint("build it with the feature `k8s`, which it has by default"))
}

pub(super) async fn states(ctx: &Ctx, _: &[(&str, &Service)], _: bool) -> Result<Vec<ServiceState>> {
    absent(ctx)
}

pub(super) async fn to_restart(ctx: &Ctx, _: &str, _: &str, _: &Service) -> Result<Effect> {
    absent(ctx)
}

pub(super) async fn restart(ctx: &Ctx, _: &str, _: &Service) -> Result<Vec<String>> {
    absent(ctx)
}

pub(super) async fn to_scale(ctx: &Ctx, _: &str, _: &Service, _: i64) -> Result<Scaling> {
    absent(ctx)
}

pub(super) async fn scale(_: &Ctx, _: &str, scaling: &Scaling, _: Span) -> Result<Scaled> {
    match *scaling {}
}

pub(super) fn planned(_: &str, scaling: &Scaling) -> Scaled {
    match *scaling {}
}

pub(super) async fn logs(ctx: &Ctx, _: &str, _: &Service, _: &LineOptions) -> Result<Vec<Line>> {
    absent(ctx)
}

pub(super) async fn usage(ctx: &Ctx, _: &str, _: &Service) -> Result<Vec<Usage>> {
    absent(ctx)
}
