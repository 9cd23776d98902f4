//! `http::`: requests and the health of endpoints. `GET`, `HEAD` and `OPTIONS` are reads; the others are effects.

mod ask;
mod client;
mod exchange;
mod measure;
mod options;
mod probe;
#[cfg(test)]
mod tests;

use hyper::Method;
use rhai::plugin::*;

use crate::host::permission::without_secrets;
use crate::host::{Access, Call, Function, HostModule, RhaiResultOf};
use crate::model::Effect;

pub(super) use ask::{Content, Question, ask, is_reached_at};
pub(super) use exchange::Answer;
#[cfg(feature = "k8s")]
pub(super) use exchange::{Route, Timings, exchange};
pub(super) use measure::{measure, page};
pub(super) use probe::at;

/// The module `http`.
pub const MODULE: HostModule = HostModule {
    name: "http",
    summary: "requests over HTTP and HTTPS, with timings and certificates, and the health of endpoints",
    build: || exported_module!(api),
    functions: &[
        Function::read("get").needs("http", "GET", 0).options::<options::Options>(),
        Function::read("head").needs("http", "HEAD", 0).options::<options::Options>(),
        Function::effect("post", "POST to the address").needs("http", "POST", 0).options::<options::Options>(),
        Function::effect("put", "PUT to the address").needs("http", "PUT", 0).options::<options::Options>(),
        Function::effect("patch", "PATCH to the address").needs("http", "PATCH", 0).options::<options::Options>(),
        Function::effect("delete", "DELETE at the address").needs("http", "DELETE", 0).options::<options::Options>(),
        // Needs the permission of its method, which is an argument.
        Function::effect("request", "the method, unless it only reads").options::<options::Options>(),
        Function::read("probe"),
    ],
};

#[export_module]
mod api {
    use hyper::Method;
    use rhai::{Dynamic, Map};

    use super::{method_of, perform, probe};
    use crate::error::{Error, Kind};
    use crate::host::{Call, RhaiResultOf};

    /// Asks for an address with `GET`.
    ///
    /// ```rhai,lab
    /// let answer = http::get(system::endpoints.health.url, #{ timeout: "5s" });
    /// answer.ok && answer.status == 200 && answer.timings.total > 0.0
    /// ```
    ///
    /// Returns `status`, `ok` (the status is one of `expect`), `headers` (by name in lower case), `body` (text),
    /// `truncated` (there is more than `max_body`), `json` (the body as data when its type says JSON, else nothing),
    /// `url` (without its query), `redirected`, `remote` (the address it came from), `timings` in milliseconds
    /// (`dns`, `connect`, `tls`, `first_byte`, `total`) and, over TLS, `tls`: `protocol`, `cipher`, `verified` and
    /// the certificate as `tls::served` describes it (`subject`, `issuer`, `names`, `not_before`, `not_after`, `days_left`,
    /// `serial`, `fingerprint`).
    ///
    /// Options: `headers` (values may be secrets), `bearer` (a token or secret), `user` and `password`;
    /// one of `body` (text), `json` (any data), `form` (a map of texts); `timeout` of everything (30 s when absent),
    /// `connect_timeout` (5 s, for each of name, connection and TLS), `expect` (a list of statuses; any 2xx when absent),
    /// `host` (the `Host` header and TLS name, when not the address's own), `connect` (`"127.0.0.1:8443"`: connect there
    /// instead of resolving the host; needs `net` for it), `ca` (a PEM file with the authorities to trust; needs `fs`),
    /// `insecure` (true verifies nothing, and `tls.verified` says so), `follow` (how many redirects, none when absent),
    /// `max_body` (1 MiB when absent).
    ///
    /// An unexpected status is no error: look at `ok`. Throws `denied`, `connect`, `timeout`, `remote` (what came back is no
    /// HTTP), `invalid`. A name must resolve to public addresses, unless the grant names the network: `"http://db @private"`.
    /// Each redirect needs a grant of its own; to another origin go no body and no headers but `Accept`,
    /// `Accept-Language` and `User-Agent`.
    #[rhai_fn(name = "get", return_raw, volatile)]
    pub fn get_with(native: NativeCallContext, url: &str, options: Map) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::get", Method::GET, url, options)
    }

    /// Asks for an address with `GET` and the defaults.
    #[rhai_fn(return_raw, volatile)]
    pub fn get(native: NativeCallContext, url: &str) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::get", Method::GET, url, Map::new())
    }

    /// Asks for the head of an answer only: as `get`, without a body.
    ///
    /// ```rhai,lab
    /// http::head(system::endpoints.health.url).body == ""
    /// ```
    ///
    /// Options, result and errors as of `get`.
    #[rhai_fn(name = "head", return_raw, volatile)]
    pub fn head_with(native: NativeCallContext, url: &str, options: Map) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::head", Method::HEAD, url, options)
    }

    /// Asks for the head of an answer with the defaults.
    #[rhai_fn(return_raw, volatile)]
    pub fn head(native: NativeCallContext, url: &str) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::head", Method::HEAD, url, Map::new())
    }

    /// Sends something with `POST`.
    ///
    /// ```rhai,lab
    /// let answer = http::post(system::endpoints.health.url, #{ json: #{ text: "hello" }, expect: [200, 201, 404, 405] });
    /// answer.ok
    /// ```
    ///
    /// In a step that declares to be `idempotent` it carries the header `Idempotency-Key`, unless `headers` sets one: the
    /// same after a crash and in another try, so that the other side can tell a repetition.
    ///
    /// Options, result and errors as of `get`. A plan sends nothing and assumes the first expected status, with an empty body.
    #[rhai_fn(return_raw, volatile)]
    pub fn post(native: NativeCallContext, url: &str, options: Map) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::post", Method::POST, url, options)
    }

    /// Sends something with `PUT`: as `post`.
    ///
    /// ```rhai,lab
    /// http::put(system::endpoints.health.url, #{ body: "x", expect: [200, 404, 405, 501] }).ok
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn put(native: NativeCallContext, url: &str, options: Map) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::put", Method::PUT, url, options)
    }

    /// Sends something with `PATCH`: as `post`.
    ///
    /// ```rhai,lab
    /// http::patch(system::endpoints.health.url, #{ json: #{}, expect: [200, 404, 405, 501] }).ok
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn patch(native: NativeCallContext, url: &str, options: Map) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::patch", Method::PATCH, url, options)
    }

    /// Removes what is at an address with `DELETE`: as `post`.
    ///
    /// ```rhai,lab
    /// http::delete(system::endpoints.health.url, #{ expect: [200, 404, 405, 501] }).ok
    /// ```
    #[rhai_fn(name = "delete", return_raw, volatile)]
    pub fn delete_with(native: NativeCallContext, url: &str, options: Map) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::delete", Method::DELETE, url, options)
    }

    /// Removes what is at an address, with the defaults.
    #[rhai_fn(return_raw, volatile)]
    pub fn delete(native: NativeCallContext, url: &str) -> RhaiResultOf<Dynamic> {
        perform(&native, "http::delete", Method::DELETE, url, Map::new())
    }

    /// Makes a request with any method: GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE.
    ///
    /// ```rhai,lab
    /// http::request("OPTIONS", system::endpoints.health.url, #{ expect: [200, 204, 404, 405, 501] }).ok
    /// ```
    ///
    /// Options, result and errors as of `get`. GET, HEAD and OPTIONS are reads; the others are effects, as `post`.
    ///
    /// Needs its method on the address, as in `http: ["OPTIONS https://api.example.com"]`.
    #[rhai_fn(return_raw, volatile)]
    pub fn request(native: NativeCallContext, method: &str, url: &str, options: Map) -> RhaiResultOf<Dynamic> {
        match method_of(method) {
            Some(method) => perform(&native, "http::request", method, url, options),
            None => {
                let error = Error::new(Kind::Invalid, format!("`{method}` is not a method"));
                Err(Call::new(&native, "http::request")?.fail(error.hint("there are GET, HEAD, OPTIONS, POST, PUT, PATCH and DELETE")))
            }
        }
    }

    /// Asks an endpoint of the system and judges the answer by what its file demands.
    ///
    /// ```rhai,lab
    /// let health = http::probe("health");
    /// health.ok && health.problem == ()
    /// ```
    ///
    /// Everything comes from `[endpoints.NAME]`: address, headers with their secrets, `status`, `contains`, `json` values by
    /// dotted path, `timeout` (10 s when absent), `ca`, `connect`. Returns what `get` returns, with `ok` (all of it holds),
    /// `problem` (one line: what was found, what was expected; nothing when it is well) and `kind` (of the failure).
    ///
    /// A bad answer, no connection and no answer in time are results, not errors: `status` is 0 then. Redirects are not followed.
    /// Throws only when it can not ask: `denied`, `not_found` (no such endpoint or secret), `invalid`, `config`.
    ///
    /// Needs `GET` on the address of the endpoint, as `http: ["${endpoints.*}"]` asks for.
    #[rhai_fn(name = "probe", return_raw, volatile)]
    pub fn probe_endpoint(native: NativeCallContext, name: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "http::probe")?;
        let probe = call.wait(probe::probe(call.ctx(), name))?;
        call.value(&probe)
    }
}

fn method_of(name: &str) -> Option<Method> {
    use Method as M;
    [M::GET, M::HEAD, M::OPTIONS, M::POST, M::PUT, M::PATCH, M::DELETE].into_iter().find(|method| method.as_str() == name)
}

/// A request of a script: a read, or an effect, by its method.
fn perform(native: &NativeCallContext<'_>, function: &'static str, method: Method, url: &str, options: rhai::Map) -> RhaiResultOf<Dynamic> {
    let call = Call::new(native, function)?;
    let url = client::read_url(url).map_err(|error| call.fail(error))?;
    call.permit(&Access::url(method.as_str(), &url))?;
    let options: options::Options = call.options(options)?;
    let is_read = method.is_safe();
    let shown = without_secrets(&url);
    let effect = Effect::new(function, &shown, format!("{method} {shown}"));
    let mut request = options.request(&call, method, url)?;
    if !is_read && let Some(key) = call.idempotency_key() {
        request.repeatable(&key);
    }
    let planned = request.planned();
    let sent = request.send(call.ctx().permissions(), call.ctx().now());
    if is_read {
        call.must_be_fresh()?;
        return call.value(&call.wait(sent)?);
    }
    call.answer(&call.effect(effect, planned, sent)?)
}
