//! Against servers that answer what they were told to, and write down every byte they got.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::error::Kind;
use crate::host::testing::{Bench, refusing_port};
use crate::host::tls::testing::{Authority, self_signed};
use crate::host::{Mode, Secrets};
use crate::model::system::Endpoint;
use crate::model::{Span, System};

/// A server on a port of its own; gone when dropped.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

/// What a server does after the request.
#[derive(Clone)]
enum Reply {
    /// Writes this and closes.
    Bytes(Vec<u8>),
    /// Writes the first, then the second for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// Writes this and stays silent.
    Silence(Vec<u8>),
}

impl Server {
    fn new(reply: Reply) -> Self {
        Self::start(move |_| reply.clone(), None)
    }

    fn bytes(reply: impl Into<Vec<u8>>) -> Self {
        Self::new(Reply::Bytes(reply.into()))
    }

    fn tls(acceptor: TlsAcceptor) -> Self {
        Self::start(|_| Reply::Bytes(ok("secure").into()), Some(acceptor))
    }

    fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static, acceptor: Option<TlsAcceptor>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, reply) = (requests.clone(), Arc::new(reply));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, reply, acceptor) = (seen.clone(), reply.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &seen, &*reply).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, &seen, &*reply).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, requests, _runtime: runtime }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Mutex<Vec<String>>, reply: &(dyn Fn(&str) -> Reply + Send + Sync)) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !is_complete(&request) {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
    let request = String::from_utf8(request).unwrap();
    seen.lock().unwrap().push(request.clone());
    match reply(&request) {
        Reply::Bytes(bytes) => {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Reply::Endless(head, chunk) => {
            let mut written = stream.write_all(&head).await;
            while written.is_ok() {
                written = stream.write_all(&chunk).await;
            }
        }
        Reply::Silence(head) => {
            let _ = stream.write_all(&head).await;
            let _ = stream.read(&mut buffer).await;
        }
    }
}

/// Whether the head and as many bytes as it promises are there.
fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn redirect(status: u16, to: &str) -> String {
    format!("HTTP/1.1 {status} Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

/// Everything on any port of this machine's address.
fn bench() -> Bench {
    Bench::new(json!({ "http": { "GET": ["http://127.0.0.1:*"], "POST": ["http://127.0.0.1:*"] } }))
}

fn text(bench: &Bench, script: &str) -> String {
    bench.eval(script).unwrap().to_string()
}

#[test]
fn an_answer_is_data() {
    let body = r#"{"int": 1, "float": 1.0, "name": "Grüße"}"#;
    let server = Server::bytes(format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let script = format!(
        r#"let r = http::get("{}", #{{ headers: #{{ "X-B": "3" }} }});
           [r.status, r.ok, r.headers["x-a"], type_of(r.json.int), type_of(r.json.float), r.json.name, r.body == `{body}`,
            r.truncated, r.redirected, r.tls == (), r.timings.total >= r.timings.first_byte, r.timings.first_byte > 0.0, r.url]"#,
        server.url("/a?token=t0ken")
    );
    let expected = r#"[200, true, "1, 2", "i64", "f64", "Grüße", true, false, false, true, true, true, "#;
    assert_eq!(text(&bench(), &script), format!("{expected}\"{}\"]", server.url("/a")));
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /a?token=t0ken HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: 127.0.0.1:{}\r\n", server.port)) && request.contains("x-b: 3\r\n"), "{request}");
}

#[test]
fn an_unexpected_status_is_not_ok_and_no_error() {
    let server = Server::bytes("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy");
    let url = server.url("/");
    assert_eq!(text(&bench(), &format!(r#"let r = http::get("{url}"); [r.status, r.ok, r.body]"#)), r#"[503, false, "busy"]"#);
    assert_eq!(text(&bench(), &format!(r#"http::get("{url}", #{{ expect: [503] }}).ok"#)), "true");
}

#[test]
fn only_what_is_granted_is_asked_for() {
    let server = Server::bytes(ok("secret"));
    let bench = Bench::new(json!({ "http": ["http://127.0.0.1:1"] }));
    assert_eq!(bench.error(&format!(r#"http::get("{}")"#, server.url("/"))).kind, Kind::Denied);
    let get_only = Bench::new(json!({ "http": [server.url("")] }));
    assert_eq!(get_only.error(&format!(r#"http::post("{}", #{{}})"#, server.url("/"))).kind, Kind::Denied);
    assert!(server.requests().is_empty());
}

/// Everything that could lead to this machine or its neighbours without saying so.
#[test]
fn no_spelling_of_a_private_address_gets_through() {
    let server = Server::bytes(ok("secret"));
    let port = server.port;
    let spellings = [
        "http://127.0.0.1:PORT/",
        "http://127.1:PORT/",
        "http://127.0.1:PORT/",
        "http://0177.0.0.1:PORT/",
        "http://0x7f.0.0.1:PORT/",
        "http://0x7f000001:PORT/",
        "http://2130706433:PORT/",
        "http://017700000001:PORT/",
        "http://0:PORT/",
        "http://0.0.0.0:PORT/",
        "http://[::1]:PORT/",
        "http://[::]:PORT/",
        "http://[::ffff:127.0.0.1]:PORT/",
        "http://[::ffff:7f00:1]:PORT/",
        "http://[::127.0.0.1]:PORT/",
        "http://[64:ff9b::7f00:1]:PORT/",
        "http://１２７.0.0.1:PORT/",
        "http://127。0。0。1:PORT/",
        "http://localhost:PORT/",
        "http://LOCALHOST.:PORT/",
        "http://ip6-localhost:PORT/",
        "http://169.254.169.254/",
        "http://10.0.0.1:PORT/",
        "http://ok.example@127.0.0.1:PORT/",
        "http:\\\\127.0.0.1:PORT\\",
        "http://ok.example:x@localhost:PORT/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:PORT/",
        "unix:/var/run/docker.sock",
        "http+unix://%2fvar%2frun%2fdocker.sock/",
        "/relative",
    ];
    let bench = Bench::new(json!({ "http": ["https://ok.example", "http://ok.example:*", "http://ok.example"] }));
    for spelling in spellings {
        let url = spelling.replace("PORT", &port.to_string()).replace('\\', "\\\\");
        let error = bench.error(&format!(r#"http::get("{url}")"#));
        assert!(matches!(error.kind, Kind::Denied | Kind::Invalid), "{url}: {error}");
    }
    let error = bench.error(&format!(r#"http::get("http://ok.example", #{{ connect: "127.0.0.1:{port}" }})"#));
    assert_eq!(error.kind, Kind::Denied);
    assert!(server.requests().is_empty());
}

#[test]
fn a_granted_name_that_resolves_to_this_machine_is_denied_without_the_network() {
    let server = Server::bytes(ok("secret"));
    let name = "ip6-localhost";
    let url = format!("http://{name}:{}/", server.port);
    let error = Bench::new(json!({ "http": [url] })).error(&format!(r#"http::get("{url}")"#));
    // The name is in every Debian's hosts file; elsewhere it does not resolve.
    assert!(error.kind == Kind::Denied && error.message.contains("this machine") || error.kind == Kind::Connect, "{error}");
    assert!(server.requests().is_empty());
}

#[test]
fn redirects_are_not_followed_unless_asked_for() {
    let server = Server::bytes(redirect(302, "http://127.0.0.1:1/"));
    let script = format!(r#"let r = http::get("{}"); [r.status, r.ok, r.redirected]"#, server.url("/"));
    assert_eq!(text(&bench(), &script), "[302, false, false]");
}

#[test]
fn a_redirect_to_what_is_not_granted_is_denied_unasked() {
    let inner = Server::bytes(ok("secret"));
    for location in [inner.url("/"), format!("http://localhost:{}/", inner.port), format!("http://2130706433:{}/x", inner.port)] {
        for status in [301, 302, 303, 307, 308] {
            let outer = Server::bytes(redirect(status, &location));
            let bench = Bench::new(json!({ "http": { "GET": [outer.url("/start")] } }));
            let error = bench.error(&format!(r#"http::get("{}", #{{ follow: 5 }})"#, outer.url("/start")));
            assert_eq!(error.kind, Kind::Denied, "{location} {status}");
        }
    }
    let outer = Server::bytes(redirect(302, "file:///etc/passwd"));
    assert_eq!(bench().error(&format!(r#"http::get("{}", #{{ follow: 5 }})"#, outer.url("/"))).kind, Kind::Invalid);
    assert!(inner.requests().is_empty());
}

#[test]
fn headers_and_bodies_do_not_go_to_another_origin() {
    let inner = Server::bytes(ok("here"));
    let to = inner.url("/inner");
    let outer = Server::start(move |_| Reply::Bytes(redirect(307, &to).into()), None);
    let headers =
        r##"headers: #{ Authorization: "Bearer abc", Cookie: "c=abc", "X-Api-Key": "abc", "X-Any": "abc", Accept: "text/plain" }"##;
    let script = format!(r#"let r = http::get("{}", #{{ {headers}, follow: 1 }}); [r.body, r.redirected, r.url]"#, outer.url("/"));
    assert_eq!(text(&bench(), &script), format!(r#"["here", true, "{}"]"#, inner.url("/inner")));
    let forwarded = inner.requests().concat();
    assert!(!forwarded.contains("abc") && forwarded.contains("accept: text/plain"), "{forwarded}");

    let error = bench().error(&format!(r#"http::post("{}", #{{ body: "data", follow: 1 }})"#, outer.url("/")));
    assert_eq!(error.kind, Kind::Denied);
    assert_eq!(inner.requests().len(), 1);
}

#[test]
fn a_redirect_within_an_origin_keeps_headers_and_ends_at_the_limit() {
    let server = Server::start(
        |request| Reply::Bytes(if request.starts_with("GET /end") { ok("end") } else { redirect(302, "/end?x=1") }.into()),
        None,
    );
    let get = format!(r#"http::get("{}", #{{ headers: #{{ "X-Api-Key": "abc" }}, follow: 1 }}).body"#, server.url("/"));
    assert_eq!(text(&bench(), &get), "end");
    let post = format!(r#"http::post("{}", #{{ body: "data", follow: 1 }}).body"#, server.url("/"));
    assert_eq!(text(&bench(), &post), "end");
    let requests = server.requests();
    assert!(requests[1].contains("x-api-key: abc"));
    assert!(requests[3].starts_with("GET /end?x=1 ") && !requests[3].contains("data"), "{}", requests[3]);

    let circle = Server::bytes(redirect(302, "/"));
    assert_eq!(text(&bench(), &format!(r#"http::get("{}", #{{ follow: 20 }}).status"#, circle.url("/"))), "302");
    assert_eq!(circle.requests().len(), 21);
}

#[test]
fn bodies_end_at_the_cap_whatever_they_promise() {
    let head = "HTTP/1.1 200 OK\r\n";
    let chunk = b"1000\r\n".iter().copied().chain([b'x'; 4096]).chain(*b"\r\n").collect::<Vec<_>>();
    let endless = [
        Reply::Endless(format!("{head}Content-Length: 100000000000\r\n\r\n").into(), vec![b'x'; 4096]),
        Reply::Endless(format!("{head}Transfer-Encoding: chunked\r\n\r\n").into(), chunk),
        Reply::Endless(format!("{head}\r\n").into(), vec![b'x'; 4096]),
    ];
    for reply in endless {
        let server = Server::new(reply);
        let script = format!(r#"let r = http::get("{}", #{{ max_body: "10KiB" }}); [r.body.len, r.truncated]"#, server.url("/"));
        assert_eq!(text(&bench(), &script), "[10240, true]");
    }
}

#[test]
fn a_compressed_bomb_ends_at_the_cap() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..256 {
        encoder.write_all(&[b'0'; 1 << 16]).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len()).into_bytes();
    answer.extend(bomb);
    let server = Server::bytes(answer);
    let script = format!(r#"let r = http::get("{}"); [r.body.len, r.truncated]"#, server.url("/"));
    assert_eq!(text(&bench(), &script), "[1048576, true]");
    let script = format!(r#"let r = http::get("{}", #{{ max_body: "16MiB" }}); [r.body.len, r.truncated]"#, server.url("/"));
    assert_eq!(text(&bench(), &script), "[16777216, false]");
}

#[test]
fn a_text_is_not_cut_within_a_character() {
    let server = Server::bytes(ok("aaé"));
    let script = format!(r#"let r = http::get("{}", #{{ max_body: 3 }}); [r.body, r.truncated]"#, server.url("/"));
    assert_eq!(text(&bench(), &script), r#"["aa", true]"#);
}

#[test]
fn silence_ends_at_the_timeout() {
    let silent = [
        Reply::Silence(Vec::new()),
        Reply::Silence(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Reply::Silence(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx".to_vec()),
    ];
    for reply in silent {
        let server = Server::new(reply);
        let started = Instant::now();
        let error = bench().error(&format!(r#"http::get("{}", #{{ timeout: "100ms" }})"#, server.url("/")));
        assert_eq!((error.kind, error.retryable), (Kind::Timeout, true), "{error}");
        assert!(started.elapsed().as_secs() < 5);
    }
}

#[test]
fn what_is_no_answer_is_an_error_of_the_remote() {
    let gzip = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope";
    for reply in ["", "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", gzip] {
        let server = Server::bytes(reply);
        let error = bench().error(&format!(r#"http::get("{}")"#, server.url("/?token=s3cret")));
        assert_eq!(error.kind, Kind::Remote, "{reply}: {error}");
    }
    let (_socket, closed) = refusing_port();
    let error = bench().error(&format!(r#"http::get("http://127.0.0.1:{closed}/?token=s3cret")"#));
    assert_eq!(error.kind, Kind::Connect, "{error}");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
}

#[test]
fn secrets_go_into_the_message_and_nowhere_else() {
    let server = Server::bytes(ok(""));
    let url = server.url("/login");
    let secrets = Secrets::new([("token".to_owned(), "s3cret-token".to_owned())].into());
    let allow = json!({ "http": ["GET http://127.0.0.1:*", "POST http://127.0.0.1:*"], "secrets": ["token"] });
    let bench = Bench::with(allow, System::default(), secrets.clone(), Mode::Apply);
    let with_secret = |script: &str| {
        let mut scope = rhai::Scope::new();
        scope.push_constant("token", crate::host::Secret::named("token"));
        bench.eval_with(&mut scope, script).map(drop)
    };
    with_secret(&format!(r#"http::get("{url}", #{{ bearer: token }})"#)).unwrap();
    with_secret(&format!(r#"http::get("{url}", #{{ user: "u", password: token }})"#)).unwrap();
    with_secret(&format!(r#"http::post("{url}", #{{ json: #{{ password: token, n: 1 }} }})"#)).unwrap();
    with_secret(&format!(r#"http::post("{url}", #{{ form: #{{ password: token, a: "b&c" }} }})"#)).unwrap();
    let requests = server.requests();
    assert!(requests[0].contains("authorization: Bearer s3cret-token\r\n"), "{}", requests[0]);
    assert!(requests[1].contains("authorization: Basic dTpzM2NyZXQtdG9rZW4=\r\n"), "{}", requests[1]);
    assert!(requests[2].ends_with(r#"{"n":1,"password":"s3cret-token"}"#), "{}", requests[2]);
    assert!(requests[3].ends_with("a=b%26c&password=s3cret-token"), "{}", requests[3]);
    assert!(!format!("{:?}", bench.recorder.events()).contains("s3cret"));
    let error = with_secret(&format!(r#"http::get("{url}", #{{ headers: #{{ "a\nb": token }} }})"#)).unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[test]
fn a_plan_sends_nothing() {
    let server = Server::bytes(ok(""));
    let allow = json!({ "http": { "POST": ["http://127.0.0.1:*"] } });
    let bench = Bench::with(allow, System::default(), Secrets::default(), Mode::Plan);
    let script = format!(r#"let r = http::post("{}", #{{ expect: [201] }}); r.status"#, server.url("/?t=1"));
    assert_eq!(crate::host::value::plain(&bench.eval(&script).unwrap()).unwrap(), "?");
    assert!(server.requests().is_empty());
    assert!(format!("{:?}", bench.recorder.events()).contains(&format!("POST {}", server.url("/"))));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let url = "http://127.0.0.1:9/";
    for options in [
        r#"body: "a", json: 1"#,
        r#"headers: #{ Host: "x" }"#,
        r#"headers: #{ "Content-Length": "1" }"#,
        r#"connect: "nowhere""#,
        r#"timeout: 5"#,
        r#"timout: "5s""#,
        r#"ca: "relative.pem""#,
    ] {
        assert_eq!(bench().error(&format!(r#"http::get("{url}", #{{ {options} }})"#)).kind, Kind::Invalid, "{options}");
    }
    assert_eq!(bench().error(&format!(r#"http::request("TRACE", "{url}", #{{}})"#)).kind, Kind::Invalid);
    assert_eq!(bench().error(&format!(r#"http::get("{url}", #{{ ca: "/etc/ssl/x.pem" }})"#)).kind, Kind::Denied);
}

#[test]
fn tls_is_verified_and_described() {
    let authority = Authority::new();
    let ca = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca.path(), &authority.pem).unwrap();
    let ca = ca.path().display().to_string();
    let good = Server::tls(authority.issue("app.test", 2100).acceptor());
    let expired = Server::tls(authority.issue("app.test", 2021).acceptor());
    let own = Server::tls(self_signed("app.test", 2100).acceptor());
    let allow = json!({ "http": ["https://app.test:*", "https://other.test:*"], "net": ["127.0.0.1:*"], "fs": { "read": [ca] } });
    let bench = Bench::new(allow);
    let get = |name: &str, server: &Server, more: &str| {
        format!(r#"http::get("https://{name}:{0}/", #{{ connect: "127.0.0.1:{0}", {more} }})"#, server.port)
    };
    let trusting = format!(r#"ca: "{ca}""#);

    let script = format!(
        "let r = {}; [r.body, r.tls.verified, r.tls.protocol, r.tls.subject, r.tls.days_left > 20000, r.timings.tls > 0.0, r.tls.names]",
        get("app.test", &good, &trusting)
    );
    assert_eq!(text(&bench, &script), r#"["secure", true, "TLSv1.3", "CN=app.test", true, true, ["app.test"]]"#);
    assert!(good.requests()[0].contains(&format!("host: app.test:{}\r\n", good.port)));

    for (name, server, options, why) in [
        ("app.test", &good, "", "no trusted authority"),
        ("app.test", &own, trusting.as_str(), "not itself among those trusted"),
        ("app.test", &expired, trusting.as_str(), "has expired"),
        ("other.test", &good, trusting.as_str(), "is for `app.test`, expected `other.test`"),
    ] {
        let error = bench.error(&get(name, server, options));
        // Without `ca` the machine's own list counts, which a bare machine does not have.
        let no_list = options.is_empty() && error.kind == Kind::Config;
        assert!(no_list || error.kind == Kind::Connect && !error.retryable && error.message.contains(why), "{error}");
    }
    let script = format!("let r = {}; [r.body, r.tls.verified, r.tls.days_left < 0]", get("app.test", &expired, "insecure: true"));
    assert_eq!(text(&bench, &script), r#"["secure", false, true]"#);
    assert_eq!(text(&bench, &format!("{}.ok", get("other.test", &good, &format!(r#"{trusting}, host: "app.test""#)))), "true");
}

fn probe(endpoint: Endpoint, secrets: Secrets) -> Bench {
    let system = System { endpoints: [("api".to_owned(), endpoint)].into(), ..System::default() };
    Bench::with(json!({ "http": ["${endpoints.*}"] }), system, secrets, Mode::Apply)
}

#[test]
fn a_probe_says_what_was_found_and_what_was_expected() {
    let body = r#"{"status": "down", "checks": [{"ok": 1}]}"#;
    let server =
        Server::bytes(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    let well = Endpoint {
        url: server.url("/health"),
        contains: Some("checks".to_owned()),
        json: [("checks.0.ok".to_owned(), json!(1.0))].into(),
        headers: [("Authorization".to_owned(), "Bearer ${secret:key}".to_owned())].into(),
        host: Some("api.test".to_owned()),
        ..Endpoint::default()
    };
    let with = |change: fn(&mut Endpoint)| {
        let mut endpoint = well.clone();
        change(&mut endpoint);
        let secrets = Secrets::new([("key".to_owned(), "s3cret".to_owned())].into());
        text(&probe(endpoint, secrets), r#"let p = http::probe("api"); [p.ok, p.problem, p.kind]"#)
    };
    assert_eq!(with(|_| {}), "[true, (), ()]");
    assert!(server.requests()[0].contains("host: api.test\r\n") && server.requests()[0].contains("Bearer s3cret"));
    for (change, problem) in [
        ((|endpoint| endpoint.status = vec![204, 301]) as fn(&mut Endpoint), r"status 200, expected 204 or 301"),
        (
            |endpoint| endpoint.contains = Some("fine".to_owned()),
            r#"the body `{\"status\": \"down\", \"checks\": [{\"ok\": 1}]}` does not contain `fine`"#,
        ),
        (|endpoint| drop(endpoint.json.insert("status".to_owned(), json!("up"))), r#"`status` is \"down\", expected \"up\""#),
        (|endpoint| drop(endpoint.json.insert("a.b".to_owned(), json!(true))), "the body has no `a.b`, expected true"),
    ] {
        assert_eq!(with(change), format!(r#"[false, "{problem}", "remote"]"#));
    }
}

#[test]
fn a_probe_never_throws_for_what_it_finds() {
    let moved = Server::bytes(redirect(301, "https://elsewhere.test/x?token=1"));
    let (_socket, closed) = refusing_port();
    let silent = Server::new(Reply::Silence(Vec::new()));
    let judge = |url: String, limit: u64| {
        let endpoint = Endpoint { url, timeout: Some(Span::millis(limit)), ..Endpoint::default() };
        text(&probe(endpoint, Secrets::default()), r#"let p = http::probe("api"); `${p.ok} ${p.status} ${p.kind} ${p.problem}`"#)
    };
    assert_eq!(judge(moved.url("/"), 30_000), "false 301 remote status 301 to `https://elsewhere.test/x`, expected 200");
    assert!(judge(format!("http://127.0.0.1:{closed}/"), 30_000).starts_with("false 0 connect `http://127.0.0.1:"));
    assert!(judge(silent.url("/"), 100).ends_with("no complete answer within 100ms"));
}

#[test]
fn a_probe_throws_when_it_can_not_ask() {
    let server = Server::bytes(ok(""));
    let secret = Endpoint { url: server.url("/"), headers: [("A".to_owned(), "${secret:none}".to_owned())].into(), ..Endpoint::default() };
    let bench = probe(secret, Secrets::default());
    assert_eq!(bench.error(r#"http::probe("api")"#).kind, Kind::NotFound);
    assert_eq!(bench.error(r#"http::probe("apu")"#).hints, ["did you mean `api`?"]);
    let endpoint = Endpoint { url: server.url("/"), ..Endpoint::default() };
    let system = System { endpoints: [("api".to_owned(), endpoint)].into(), ..System::default() };
    let bench = Bench::with(json!({}), system, Secrets::default(), Mode::Apply);
    assert_eq!(bench.error(r#"http::probe("api")"#).kind, Kind::Denied);
    assert!(server.requests().is_empty());
}
