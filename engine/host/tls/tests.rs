use std::sync::Arc;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::testing::{Authority, Identity, self_signed};
use crate::error::Kind;
use crate::host::testing::{Bench, refusing_port};
use crate::host::{Mode, Secrets};
use crate::model::System;

/// A TLS server on a port of its own; gone when dropped.
struct Server {
    port: u16,
    _runtime: Runtime,
}

/// What is spoken before TLS: in turn, what the client says and what is answered.
type Prelude = &'static [(&'static [u8], &'static [u8])];

impl Server {
    fn new(identity: Identity) -> Self {
        Self::with(identity, &[])
    }

    fn with(identity: Identity, prelude: Prelude) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = Arc::new(identity.acceptor());
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if speak(&mut stream, prelude).await.is_ok()
                        && let Ok(mut stream) = acceptor.accept(stream).await
                    {
                        let _ = stream.read_u8().await;
                    }
                });
            }
        });
        Self { port, _runtime: runtime }
    }
}

async fn speak(stream: &mut TcpStream, prelude: Prelude) -> std::io::Result<()> {
    for (said, answer) in prelude {
        let mut heard = vec![0; said.len()];
        stream.read_exact(&mut heard).await?;
        assert_eq!(heard, *said);
        stream.write_all(answer).await?;
    }
    Ok(())
}

/// A directory with the files of these tests, and a run that may read them and connect to this machine.
struct Files {
    directory: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let files = Self { directory: tempfile::tempdir().unwrap(), authority: Authority::new() };
        files.write("ca.pem", &files.authority.pem);
        files
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, content: &str) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    fn bench(&self) -> Bench {
        Bench::new(json!({ "fs": { "read": [self.path("")] }, "net": ["127.0.0.1:*", "app.test:*"] }))
    }

    /// What a script says of a served certificate.
    fn served(&self, server: &Server, options: &str, say: &str) -> String {
        let ca = self.path("ca.pem");
        let script = format!(r#"let c = tls::served("127.0.0.1:{}", #{{ ca: "{ca}", {options} }}); {say}"#, server.port);
        self.bench().eval(&script).unwrap().to_string()
    }
}

#[test]
fn a_file_is_described_with_its_chain_and_key() {
    let files = Files::new();
    let identity = files.authority.issue("app.test", 2100);
    let path = files.write("cert.pem", &format!("{}{}", identity.certificate, files.authority.pem));
    let key = files.write("key.pem", &identity.key);
    let other = files.write("other.pem", &files.authority.issue("app.test", 2100).key);
    let bench = files.bench();
    let script = format!(
        r#"let c = tls::file("{path}", #{{ key: "{key}" }});
           [c.ok, c.problem, c.subject, c.issuer, c.names, c.not_before, c.not_after, c.days_left > 20000, c.chain.len(),
            c.chain[0].subject == c.issuer, c.key_matches, c.fingerprint.len, c.serial.len > 0]"#
    );
    let issuer = "CN=Test Authority";
    let head = format!(r#"[true, (), "CN=app.test", "{issuer}", ["app.test"], "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z", true, 1, "#);
    assert_eq!(bench.eval(&script).unwrap().to_string(), format!("{head}true, true, 64, true]"));
    let script = format!(r#"let c = tls::file("{path}", #{{ key: "{other}" }}); [c.ok, c.key_matches, c.problem]"#);
    let expected = r#"[false, false, "the key is not the one of the certificate"]"#;
    assert_eq!(bench.eval(&script).unwrap().to_string(), expected);
}

#[test]
fn a_file_for_a_name_is_judged_as_its_clients_would() {
    let files = Files::new();
    let path = files.write("cert.pem", &files.authority.issue("app.test", 2100).certificate);
    let old = files.write("old.pem", &files.authority.issue("app.test", 2021).certificate);
    let own = files.write("own.pem", &self_signed("app.test", 2100).certificate);
    let ca = files.path("ca.pem");
    let look = |path: &str, name: &str| {
        files
            .bench()
            .eval(&format!(r#"let c = tls::file("{path}", #{{ name: "{name}", ca: "{ca}" }}); c.problem ?? "fine""#))
            .unwrap()
            .to_string()
    };
    assert_eq!(look(&path, "app.test"), "fine");
    assert!(look(&path, "shop.test").contains("app.test"), "{}", look(&path, "shop.test"));
    assert_eq!(look(&old, "app.test"), "the certificate has expired");
    assert_ne!(look(&own, "app.test"), "fine");
    assert_eq!(files.bench().error(&format!(r#"tls::file("{path}", #{{ ca: "{ca}" }})"#)).kind, Kind::Invalid);
}

#[test]
fn an_expired_file_has_negative_days() {
    let files = Files::new();
    let path = files.write("cert.pem", &files.authority.issue("app.test", 2021).certificate);
    let script = format!(r#"let c = tls::file("{path}"); [c.ok, c.problem, c.days_left < -1000, c.key_matches]"#);
    let expected = r#"[false, "the certificate has expired", true, ()]"#;
    assert_eq!(files.bench().eval(&script).unwrap().to_string(), expected);
}

#[test]
fn only_granted_files_are_read_also_behind_links() {
    let files = Files::new();
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("cert.pem");
    std::fs::write(&target, &files.authority.pem).unwrap();
    let link = files.path("link.pem");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let error = files.bench().error(&format!(r#"tls::file("{link}")"#));
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.message.contains(target.to_str().unwrap()), "{error}");
    // A grant for the very path is one for what it links to: certificates are renewed behind links.
    let exact = Bench::new(json!({ "fs": { "read": [link] } }));
    assert_eq!(exact.eval(&format!(r#"tls::file("{link}").subject"#)).unwrap().to_string(), "CN=Test Authority");

    for (path, kind) in [
        (target.display().to_string(), Kind::Denied),
        (format!("{}/../x.pem", files.path("")), Kind::Denied),
        ("cert.pem".to_owned(), Kind::Invalid),
        (files.path("missing.pem"), Kind::NotFound),
        (files.path(""), Kind::Invalid),
        (files.write("text.pem", "hello"), Kind::Invalid),
        (files.write("large.pem", &"x".repeat((1 << 20) + 1)), Kind::Invalid),
    ] {
        assert_eq!(files.bench().error(&format!(r#"tls::file("{path}")"#)).kind, kind, "{path}");
    }
}

#[test]
fn a_pipe_is_refused_without_opening_it() {
    let files = Files::new();
    let pipe = files.path("pipe.pem");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let error = files.bench().error(&format!(r#"tls::file("{pipe}")"#));
    assert!(error.kind == Kind::Invalid && error.message.contains("no regular file"), "{error}");
}

#[test]
fn a_served_certificate_is_judged_and_described_all_the_same() {
    let files = Files::new();
    let say = "[c.trusted, c.problem, c.subject, c.days_left > 0]";
    let good = Server::new(files.authority.issue("app.test", 2100));
    assert_eq!(files.served(&good, r#"name: "app.test""#, say), r#"[true, (), "CN=app.test", true]"#);
    assert_eq!(files.served(&good, r#"name: "app.test""#, "[c.ok, c.protocol, c.ms > 0.0, c.chain]"), r#"[true, "TLSv1.3", true, []]"#);
    let wrong = r#"[false, "the certificate is for `app.test`, expected `other.test`", "CN=app.test", true]"#;
    assert_eq!(files.served(&good, r#"name: "other.test""#, say), wrong);

    let expired = Server::new(files.authority.issue("app.test", 2021));
    assert_eq!(files.served(&expired, r#"name: "app.test""#, say), r#"[false, "the certificate has expired", "CN=app.test", false]"#);

    let own = Server::new(self_signed("app.test", 2100));
    let distrusted = r#"[false, "the certificate is self-signed and not among those trusted", "CN=app.test", true]"#;
    assert_eq!(files.served(&own, r#"name: "app.test""#, say), distrusted);

    let stranger = Server::new(Authority::new().issue("app.test", 2100));
    let problem = files.served(&stranger, r#"name: "app.test""#, "c.problem");
    // The stranger's authority has the name of ours, but not its key.
    assert!(problem.contains("no trusted authority") || problem.contains("ignature"), "{problem}");
}

#[test]
fn a_self_signed_certificate_is_trusted_where_it_is_named() {
    let files = Files::new();
    for (until, name, verdict) in [
        (2100, "app.test", "[true, ()]"),
        (2100, "other.test", r#"[false, "the certificate is for `app.test`, expected `other.test`"]"#),
        (2021, "app.test", r#"[false, "the certificate has expired"]"#),
    ] {
        let identity = self_signed("app.test", until);
        files.write("ca.pem", &identity.certificate);
        let server = Server::new(identity);
        assert_eq!(files.served(&server, &format!(r#"name: "{name}""#), "[c.trusted, c.problem]"), verdict);
    }
}

#[test]
fn a_server_is_named_and_reached_in_several_ways() {
    let files = Files::new();
    let server = Server::new(files.authority.issue("app.test", 2100));
    let (port, ca, bench) = (server.port, files.path("ca.pem"), files.bench());
    for script in [
        format!(r#"tls::served("app.test:443", #{{ connect: "127.0.0.1:{port}", ca: "{ca}" }}).trusted"#),
        format!(r#"tls::served("127.0.0.1", {port}, #{{ name: "app.test", ca: "{ca}" }}).trusted"#),
        format!(r#"!tls::served("127.0.0.1", {port}).trusted"#),
        format!(r#"!tls::served("127.0.0.1:{port}").trusted"#),
    ] {
        assert_eq!(bench.eval(&script).unwrap().to_string(), "true", "{script}");
    }
    for script in [
        format!(r#"tls::served("localhost:{port}")"#),
        format!(r#"tls::served("app.test:443", #{{ connect: "127.0.0.2:{port}" }})"#),
        format!(r#"tls::served("127.0.0.1:{port}", #{{ ca: "/etc/other.pem" }})"#),
    ] {
        assert_eq!(bench.error(&script).kind, Kind::Denied, "{script}");
    }
}

#[test]
fn mail_servers_and_databases_are_asked_to_start_tls() {
    let files = Files::new();
    let mail: Prelude = &[
        (b"", b"220-mail\r\n220 ready\r\n"),
        (b"EHLO runbook\r\n", b"250-mail\r\n250-SIZE\r\n250 STARTTLS\r\n"),
        (b"STARTTLS\r\n", b"220 go\r\n"),
    ];
    let server = Server::with(files.authority.issue("mail.test", 2100), mail);
    assert_eq!(files.served(&server, r#"name: "mail.test", starttls: "smtp""#, "c.trusted"), "true");
    let server = Server::with(files.authority.issue("db.test", 2100), &[(&[0, 0, 0, 8, 4, 210, 22, 47], b"S")]);
    assert_eq!(files.served(&server, r#"name: "db.test", starttls: "postgres""#, "c.trusted"), "true");
    let plain = Server::with(files.authority.issue("db.test", 2100), &[(&[0, 0, 0, 8, 4, 210, 22, 47], b"N")]);
    let error = files.bench().error(&format!(r#"tls::served("127.0.0.1:{}", #{{ starttls: "postgres" }})"#, plain.port));
    assert_eq!(error.kind, Kind::Remote);
}

#[test]
fn what_shows_no_certificate_is_an_error() {
    let files = Files::new();
    let talks = Server::with(files.authority.issue("x.test", 2100), &[(b"", b"220 not TLS at all\r\n")]);
    let silent = Server::with(files.authority.issue("x.test", 2100), &[(&[0; 4096], b"")]);
    let (_socket, closed) = refusing_port();
    for (port, limit, kind) in [(talks.port, "30s", Kind::Remote), (silent.port, "100ms", Kind::Timeout), (closed, "30s", Kind::Connect)] {
        let error = files.bench().error(&format!(r#"tls::served("127.0.0.1:{port}", #{{ timeout: "{limit}" }})"#));
        assert_eq!(error.kind, kind, "{error}");
    }
}

#[test]
fn a_certificate_of_the_system_is_looked_at_everywhere() {
    let files = Files::new();
    let current = files.authority.issue("app.test", 2100);
    let path = files.write("cert.pem", &current.certificate);
    let old = files.write("old.pem", &files.authority.issue("app.test", 2021).certificate);
    let server = Server::new(current);
    let served = format!("127.0.0.1:{}", server.port);
    let (name, ca) = ("app.test", files.path("ca.pem"));
    let system: System = serde_json::from_value(json!({ "certificates": {
        "both": { "file": path, "served": served, "name": name, "ca": ca },
        "stale": { "file": old, "served": served, "name": name, "ca": ca },
        "file": { "file": path },
        "none": {},
    }}))
    .unwrap();
    let allow = json!({ "fs": { "read": ["${certificates.*}"] }, "net": ["${certificates.*}"] });
    let bench = Bench::with(allow, system.clone(), Secrets::default(), Mode::Apply);
    let say = |name: &str| {
        let script = format!(r#"let c = tls::certificate("{name}"); [c.ok, c.problem, c.matches, c.days_left > 0, c.served == ()]"#);
        bench.eval(&script).unwrap().to_string()
    };
    assert_eq!(say("both"), "[true, (), true, true, false]");
    assert_eq!(say("stale"), r#"[false, "in the file: the certificate has expired", false, false, false]"#);
    assert_eq!(say("file"), "[true, (), (), true, true]");
    assert_eq!(bench.error(r#"tls::certificate("none")"#).kind, Kind::Invalid);
    assert_eq!(bench.error(r#"tls::certificate("bot")"#).hints, ["did you mean `both`?"]);
    let nothing = Bench::with(json!({}), system, Secrets::default(), Mode::Apply);
    assert_eq!(nothing.error(r#"tls::certificate("both")"#).kind, Kind::Denied);
}
