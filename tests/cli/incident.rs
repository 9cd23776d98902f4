//! `runbook incident`.

use crate::harness::sink::Sink;
use crate::harness::{Project, Test};

fn shop(sink: &Sink, language: &str) -> Project {
    let system = format!(
        r#"
title = "Shop"
language = "{language}"
timezone = "UTC"
[services]
manager = "processes"
[services.api]
needs = ["db"]
[services.db]
[severity.sev1]
label = "P0"
respond = "5m"
resolve = "2h"
[routes]
sev1 = ["chat"]
recovery = ["chat"]
[contacts.chat]
kind = "webhook"
url = "{}"
"#,
        sink.url()
    );
    Project::new().file("runbooks/systems/shop.toml", &system).file("runbook.toml", "default_system = \"shop\"\n")
}
