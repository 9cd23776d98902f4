//! How a cluster is reached: its address, whom it is trusted by, and what proves who asks.
//!
//! Read from the kubeconfig that the system file names, or from what Kubernetes gives every pod. What
//! starts programs (`exec`, `auth-provider`) is refused: a file of credentials must not run anything.
//! No error shows a line of the file, since each of them may be a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, Kubeconfig, KubeconfigError};
use secrecy::ExposeSecret;
use url::Url;
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::host::Secrets;
use crate::host::trust::{Identity, Trust, certificates_of};
use crate::model::system;

/// What Kubernetes puts into every pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// The name of the API server in every cluster.
const INSIDE: &str = "https://kubernetes.default.svc";

/// A cluster that can be asked.
pub(super) struct Access {
    /// The address, with the path some gateways put before everything.
    pub(super) server: Url,
    /// The name the server must prove.
    pub(super) server_name: String,
    pub(super) trust: Trust,
    pub(super) identity: Option<Identity>,
    pub(super) token: Option<Zeroizing<String>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("server", &self.server.as_str()).finish_non_exhaustive()
    }
}

impl Access {
    /// The cluster of a system. Files are read anew each time: tokens in them are renewed while a run goes on.
    ///
    /// # Errors
    ///
    /// `config` naming what is missing or refused; `not_found` for a file or a secret.
    pub(super) fn of(cluster: &system::Cluster, secrets: &Secrets) -> Result<Self> {
        let mut access = match &cluster.kubeconfig {
            Some(path) => Self::of_file(Path::new(path), cluster.context.as_deref())?,
            None => Self::inside()?,
        };
        if let Some(token) = &cluster.token {
            access.token = Some(Zeroizing::new(secrets.reveal(token)?));
        }
        access.checked()
    }

    fn of_file(path: &Path, context: Option<&str>) -> Result<Self> {
        let config = read(path)?;
        let (name, cluster, user) = choose(&config, path, context)?;
        let at = |what: &str| wrong(path, format!("context `{name}` {what}"));
        if cluster.proxy_url.is_some() {
            return Err(at("goes through a proxy, which is not supported").hint("name the API server itself"));
        }
        let server = cluster.server.as_deref().unwrap_or_default();
        let server = Url::parse(server).map_err(|error| Error::because(Kind::Config, at("names no proper server").message, &error))?;
        let trust = match (cluster.insecure_skip_tls_verify, &cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(true), ..) => Trust::Anyone,
            (_, Some(data), _) => Trust::Only(certificates_of(&decoded(data, &at("has a broken `certificate-authority-data`"))?)?),
            (_, None, Some(file)) => Trust::of_file(Some(Path::new(file)))?,
            (_, None, None) => Trust::Machine,
        };
        let mut access = Self::at(server, trust)?;
        if let Some(name) = &cluster.tls_server_name {
            access.server_name.clone_from(name);
        }
        access.log_in(user, &at)?;
        Ok(access)
    }

    /// The cluster this machine is a pod of.
    fn inside() -> Result<Self> {
        let file = |name: &str| PathBuf::from(ACCOUNT).join(name);
        let server = Url::parse(INSIDE).map_err(|error| Error::because(Kind::Bug, INSIDE, &error))?;
        let mut access = Self::at(server, Trust::of_file(Some(&file("ca.crt")))?)?;
        access.token = Some(token_in(&file("token"))?);
        Ok(access)
    }

    fn at(server: Url, trust: Trust) -> Result<Self> {
        let Some(host) = server.host_str() else {
            return Err(Error::new(Kind::Config, format!("`{server}` is no address of an API server")));
        };
        let server_name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { server, server_name, trust, identity: None, token: None })
    }

    fn log_in(&mut self, user: &AuthInfo, at: &dyn Fn(&str) -> Error) -> Result<()> {
        if user.exec.is_some() || user.auth_provider.is_some() {
            let what = if user.exec.is_some() { "`exec`" } else { "`auth-provider`" };
            return Err(at(&format!("logs in with {what}, which starts a program, and that is refused")).hint(
                "give it a token (`kubectl create token NAME`) or a client certificate; `[cluster] token = \"${secret:NAME}\"` works too",
            ));
        }
        if user.username.is_some() || user.password.is_some() {
            return Err(
                at("logs in with a password, which API servers do not take any more").hint("give it a token or a client certificate")
            );
        }
        if user.impersonate.is_some() {
            return Err(at("is somebody else (`as`), which is not supported").hint("give it credentials of its own"));
        }
        if let Some(token) = &user.token {
            self.token = Some(Zeroizing::new(token.expose_secret().to_owned()));
        } else if let Some(file) = &user.token_file {
            self.token = Some(token_in(Path::new(file))?);
        }
        let chain = part(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), at)?;
        let key = user.client_key_data.as_ref().map(|key| key.expose_secret());
        let key = part(key, user.client_key.as_deref(), at)?;
        self.identity = match (chain, key) {
            (Some(chain), Some(key)) => Some(Identity::of_pem(&chain, &key)?),
            (None, None) => None,
            _ => return Err(at("has a client certificate without its key, or a key without its certificate")),
        };
        Ok(())
    }

    /// Nothing that proves who asks goes over the network in the clear.
    fn checked(self) -> Result<Self> {
        match self.server.scheme() {
            "https" => Ok(self),
            "http" if self.token.is_none() || is_this_machine(&self.server_name) => Ok(self),
            "http" => {
                Err(Error::new(Kind::Config, format!("`{}` would get the token in the clear", self.server)).hint("name it by `https`"))
            }
            other => Err(Error::new(Kind::Config, format!("the scheme of the API server is `{other}`, expected `https`"))),
        }
    }

    /// What tells this cluster from others: where it is, and whose word counts for that.
    pub(super) fn identity_of_server(&self) -> String {
        use sha2::{Digest, Sha256};
        let trusted = match &self.trust {
            Trust::Only(authorities) => authorities.iter().fold(Sha256::new(), |hash, one| hash.chain_update(one)).finalize()[..8].to_vec(),
            Trust::Machine | Trust::Anyone => Vec::new(),
        };
        format!("{} {}", self.server, crate::words::hex(&trusted)).trim().to_owned()
    }

    /// A text without what proves who asks.
    pub(super) fn scrub(&self, text: String) -> String {
        match &self.token {
            Some(token) if !token.is_empty() => text.replace(token.as_str(), "***"),
            _ => text,
        }
    }
}

/// What the walls of a run have to let through: the files that are read, and the port.
pub(in crate::host) fn needs(cluster: &system::Cluster) -> (Vec<PathBuf>, Option<u16>) {
    let Some(path) = &cluster.kubeconfig else {
        return (vec![ACCOUNT.into()], Some(443));
    };
    let path = Path::new(path);
    let mut files = vec![path.to_owned()];
    let config = read(path).ok();
    let chosen = config.as_ref().and_then(|config| choose(config, path, cluster.context.as_deref()).ok());
    let Some((_, server, user)) = chosen else { return (files, None) };
    let named = [&server.certificate_authority, &user.client_certificate, &user.client_key];
    files.extend(named.into_iter().flatten().map(PathBuf::from));
    // A token is replaced as a file when it is renewed, so it is the directory that must be readable.
    files.extend(user.token_file.as_ref().and_then(|file| Path::new(file).parent()).map(Path::to_owned));
    (files, server.server.as_ref().and_then(|server| Url::parse(server).ok()?.port_or_known_default()))
}

fn read(path: &Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(path).map_err(|error| match error {
        KubeconfigError::ReadConfig(error, _) if error.kind() == std::io::ErrorKind::NotFound => {
            Error::new(Kind::NotFound, format!("there is no kubeconfig `{}`", path.display()))
                .hint("`[cluster] kubeconfig` of the system file names it; `in_cluster = true` instead is for a pod of the cluster")
        }
        KubeconfigError::ReadConfig(error, _) => Error::because(Kind::Config, format_args!("`{}` can not be read", path.display()), &error),
        // What the parser says shows lines of the file.
        _ => wrong(path, "it is no proper YAML of a kubeconfig".to_owned()).hint("`kubectl --kubeconfig FILE config view` says more"),
    })
}

/// The chosen context, its cluster and its user.
fn choose<'c>(config: &'c Kubeconfig, path: &Path, context: Option<&str>) -> Result<(&'c str, &'c kube::config::Cluster, &'c AuthInfo)> {
    let known = || config.contexts.iter().map(|context| context.name.as_str());
    let Some(name) = context.or(config.current_context.as_deref()).filter(|name| !name.is_empty()) else {
        return Err(wrong(path, "it has no current context".to_owned()).hint("name one: `[cluster] context = \"…\"`"));
    };
    let Some((name, chosen)) = config.contexts.iter().find(|one| one.name == name).and_then(|one| Some((&one.name, one.context.as_ref()?)))
    else {
        return Err(wrong(path, format!("it has no context `{name}`")).suggest(name, known()));
    };
    let cluster = config.clusters.iter().find(|one| one.name == chosen.cluster).and_then(|one| one.cluster.as_ref());
    let user = chosen.user.as_deref().unwrap_or_default();
    let user = config.auth_infos.iter().find(|one| one.name == user).and_then(|one| one.auth_info.as_ref());
    match (cluster, user) {
        (Some(cluster), Some(user)) => Ok((name, cluster, user)),
        (None, _) => Err(wrong(path, format!("it has no cluster `{}`, which context `{name}` names", chosen.cluster))),
        (_, None) => Err(wrong(path, format!("it has no user for context `{name}`"))),
    }
}

fn wrong(path: &Path, what: String) -> Error {
    Error::new(Kind::Config, format!("kubeconfig `{}`: {what}", path.display())).target(path.display().to_string())
}

/// Something that stands in the file, or in one that it names.
fn part(data: Option<&str>, file: Option<&str>, at: &dyn Fn(&str) -> Error) -> Result<Option<Zeroizing<Vec<u8>>>> {
    match (data, file) {
        (Some(data), _) => Ok(Some(Zeroizing::new(decoded(data, &at("has a broken client certificate or key"))?))),
        (None, Some(file)) => {
            let read = std::fs::read(file).map_err(|error| Error::because(Kind::Config, format_args!("`{file}` can not be read"), &error));
            Ok(Some(Zeroizing::new(read?)))
        }
        (None, None) => Ok(None),
    }
}

fn decoded(data: &str, broken: &Error) -> Result<Vec<u8>> {
    STANDARD.decode(data.trim()).map_err(|_| broken.clone())
}

fn token_in(file: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let kind = if error.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Config };
        Error::because(kind, format_args!("the token in `{}` can not be read", file.display()), &error)
    })?;
    Ok(Zeroizing::new(Zeroizing::new(text).trim().to_owned()))
}

fn is_this_machine(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
