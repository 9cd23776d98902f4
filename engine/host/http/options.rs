//! The options of a request, and the request they make.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hyper::Method;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::client::Request;
use crate::error::{Error, Kind};
use crate::host::dial::Peer;
use crate::host::tls::read_pem;
use crate::host::trust::{Trust, certificates_of};
use crate::host::{Access, Call, RhaiResultOf, SecretText};
use crate::model::{Size, Span};

/// How a request is made.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Options {
    headers: BTreeMap<String, SecretText>,
    bearer: Option<SecretText>,
    user: Option<String>,
    password: Option<SecretText>,
    body: Option<SecretText>,
    json: Option<Value>,
    form: Option<BTreeMap<String, SecretText>>,
    timeout: Option<Span>,
    connect_timeout: Option<Span>,
    expect: Vec<u16>,
    host: Option<String>,
    connect: Option<String>,
    ca: Option<PathBuf>,
    insecure: bool,
    follow: u32,
    max_body: Option<Size>,
}

impl Options {
    /// The request; opens the secrets in it.
    pub(super) fn request(self, call: &Call<'_>, method: Method, url: Url) -> RhaiResultOf<Request> {
        let fail = |error| call.fail(error);
        let opener = Opener { call, url: &url.clone(), connect: self.connect.as_deref().map(|text| connect(call, text)).transpose()? };
        let mut request = Request::new(method, url);
        for (name, value) in &self.headers {
            request.header(name, &opener.open(value)?).map_err(fail)?;
        }
        if let Some(token) = &self.bearer {
            request.header("authorization", &format!("Bearer {}", opener.open(token)?)).map_err(fail)?;
        }
        if let Some(user) = &self.user {
            let password = self.password.as_ref().map(|password| opener.open(password)).transpose()?.unwrap_or_default();
            request.basic(user, &password).map_err(fail)?;
        }
        self.content(&opener, &mut request)?;
        request.connect = opener.connect;
        request.trust = self.trust(call)?;
        request.timeout = self.timeout.map_or(request.timeout, |timeout| timeout.0);
        request.connect_timeout = self.connect_timeout.map_or(request.connect_timeout, |timeout| timeout.0);
        request.max_body = self.max_body.map_or(request.max_body, |size| usize::try_from(size.0).unwrap_or(usize::MAX));
        request.expect = self.expect;
        request.host = self.host;
        request.follow = self.follow;
        Ok(request)
    }

    fn content(&self, opener: &Opener<'_>, request: &mut Request) -> RhaiResultOf<()> {
        match (&self.body, &self.json, &self.form) {
            (None, None, None) => {}
            (Some(text), None, None) => request.content("text/plain; charset=utf-8", opener.open(text)?),
            (None, Some(value), None) => request.content("application/json", opener.opened(value)?.to_string()),
            (None, None, Some(form)) => {
                let mut text = url::form_urlencoded::Serializer::new(String::new());
                for (name, value) in form {
                    text.append_pair(name, &opener.open(value)?);
                }
                request.content("application/x-www-form-urlencoded", text.finish());
            }
            _ => {
                return Err(opener
                    .call
                    .fail(Error::new(Kind::Invalid, "there are several bodies, expected one of `body`, `json` and `form`")));
            }
        }
        Ok(())
    }

    fn trust(&self, call: &Call<'_>) -> RhaiResultOf<Trust> {
        match &self.ca {
            _ if self.insecure => Ok(Trust::Anyone),
            None => Ok(Trust::Machine),
            Some(path) => {
                let pem = read_pem(call.ctx().permissions(), path);
                pem.and_then(|pem| certificates_of(&pem)).map(Trust::Only).map_err(|error| call.fail(error))
            }
        }
    }
}

/// Where a script wants to connect instead: it needs the grant `net` for that very address, since the
/// grant for the URL is one for its name.
fn connect(call: &Call<'_>, text: &str) -> RhaiResultOf<(Peer, crate::host::permission::Grant)> {
    let peer = Peer::parse(text).map_err(|error| call.fail(error))?;
    let grant = call.ctx().permissions().check(&Access::host("connect", &peer.host, peer.port));
    let grant = grant.map_err(|error| call.fail(error))?.clone();
    Ok((peer, grant))
}

/// What opens the secrets of a request: they go to its address, and to where it connects instead.
struct Opener<'a> {
    call: &'a Call<'a>,
    url: &'a Url,
    connect: Option<(Peer, crate::host::permission::Grant)>,
}

impl Opener<'_> {
    fn open(&self, text: &SecretText) -> RhaiResultOf<String> {
        if let Some((peer, _)) = &self.connect {
            self.call.open(text, &[Access::host("connect", &peer.host, peer.port)])?;
        }
        self.call.open(text, &[Access::url("POST", self.url)])
    }

    /// The value with every secret in it opened.
    fn opened(&self, value: &Value) -> RhaiResultOf<Value> {
        Ok(match value {
            Value::String(_) => match serde_json::from_value::<SecretText>(value.clone()) {
                Ok(text) => Value::String(self.open(&text)?),
                Err(error) => return Err(self.call.fail(Error::because(Kind::Invalid, "a secret in `json` can not be read", &error))),
            },
            Value::Array(list) => list.iter().map(|item| self.opened(item)).collect::<RhaiResultOf<_>>()?,
            Value::Object(map) => {
                let opened = map.iter().map(|(key, item)| Ok((key.clone(), self.opened(item)?)));
                Value::Object(opened.collect::<RhaiResultOf<_>>()?)
            }
            other => other.clone(),
        })
    }
}
