//! Channels against real servers on loopback that write down every byte.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::client::deliver_within;
use super::*;
use crate::host::testing::Bench;
use crate::host::trust;
use crate::host::{Mode, Secrets};
use crate::model::{Level, System};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What came over the wire, line by line, and whether it was encrypted.
type Wire = Arc<Mutex<Vec<(bool, String)>>>;

/// How a mail server behaves.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Implicit,
    StartTls,
    Stripped,
    Plain,
    /// Greylisting.
    Busy,
}

struct MailServer {
    port: u16,
    wire: Wire,
    authority: tempfile::NamedTempFile,
}

impl MailServer {
    /// A server with a certificate for `name`, which refuses recipients that begin with `gone`.
    async fn start(manner: Manner, name: &str) -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
        let authority = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(authority.path(), cert.pem()).unwrap();
        let acceptor = acceptor(cert.der().clone(), &signing_key);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let wire = Wire::default();
        let server = Self { port, wire: wire.clone(), authority };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, wire) = (acceptor.clone(), wire.clone());
                tokio::spawn(async move {
                    if manner == Manner::Implicit {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        talk(Box::new(stream), true, manner, &wire, true).await;
                    } else if let Some(stream) = talk(Box::new(stream), false, manner, &wire, true).await {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        talk(Box::new(stream), true, manner, &wire, false).await;
                    }
                });
            }
        });
        server
    }

    fn contact(&self, server: &str, password: Option<&str>) -> Contact {
        Contact::Email {
            to: vec!["ops@example.com".to_owned()],
            from: "runbook@example.com".to_owned(),
            server: server.replace("PORT", &self.port.to_string()),
            password: password.map(str::to_owned),
            ca: Some(self.authority.path().display().to_string()),
            per_minute: None,
            fallback: None,
        }
    }

    fn said(&self, encrypted: bool) -> String {
        let wire = self.wire.lock().unwrap();
        wire.iter().filter(|(tls, _)| *tls == encrypted).map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
    }
}

fn acceptor(cert: rustls::pki_types::CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(trust::provider()).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(vec![cert], key).unwrap()))
}

/// One session; gives the stream back when the client asked for STARTTLS and may have it.
async fn talk(stream: Box<dyn Stream>, encrypted: bool, manner: Manner, wire: &Wire, greet: bool) -> Option<Box<dyn Stream>> {
    let mut stream = BufReader::new(stream);
    if greet {
        stream.write_all(b"220 sink ESMTP\r\n").await.ok()?;
    }
    let mut in_data = false;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        wire.lock().unwrap().push((encrypted, line.clone()));
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
        let offers_tls = !encrypted && manner == Manner::StartTls;
        let answer = match verb.as_str() {
            _ if in_data && line == "." => {
                in_data = false;
                "250 2.0.0 queued as 42\r\n"
            }
            _ if in_data => continue,
            "EHLO" if offers_tls => "250-sink\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
            "EHLO" => "250-sink\r\n250 AUTH PLAIN\r\n",
            "STARTTLS" if offers_tls => {
                stream.write_all(b"220 go ahead\r\n").await.ok()?;
                return Some(stream.into_inner());
            }
            "AUTH" if line.contains("AG1lAHdyb25n") => "535 5.7.8 wrong password\r\n",
            "AUTH" => "235 ok\r\n",
            "MAIL" if manner == Manner::Busy => "451 try again later\r\n",
            "RCPT" if line.contains("<gone") => "550 no such user\r\n",
            "MAIL" | "RCPT" => "250 ok\r\n",
            "DATA" => {
                in_data = true;
                "354 go on\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => "502 what?\r\n",
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

fn message() -> Message {
    Message {
        subject: "数据库 \"main\" does not answer".to_owned(),
        text: "it's {down} \\ now".to_owned(),
        level: Urgency::Level(Level::Critical),
        ..Message::default()
    }
}

async fn told(contact: &Contact) -> Result<Receipt, Refusal> {
    deliver_within(Duration::from_secs(10), contact, &message(), &Secrets::default()).await
}

#[tokio::test]
async fn mail_goes_through_starttls_and_nothing_before_it() {
    let server = MailServer::start(Manner::StartTls, "localhost").await;
    let receipt = told(&server.contact("smtp://me@localhost:PORT", Some("secret"))).await.unwrap();
    assert_eq!(receipt.detail, "250 2.0.0 queued as 42");
    let (open, hidden) = (server.said(false), server.said(true));
    assert!(open.starts_with("EHLO ") && open.ends_with("\nSTARTTLS"), "{open}");
    assert!(hidden.contains("AUTH PLAIN") && hidden.contains("RCPT TO:<ops@example.com>"), "{hidden}");
    assert!(hidden.contains("Auto-Submitted: auto-generated"), "{hidden}");
}

#[tokio::test]
async fn mail_goes_through_tls_from_the_first_byte() {
    let server = MailServer::start(Manner::Implicit, "localhost").await;
    told(&server.contact("smtps://localhost:PORT", None)).await.unwrap();
    assert_eq!(server.said(false), "");
    assert!(!server.said(true).contains("AUTH"));
}

#[tokio::test]
async fn mail_goes_in_the_open_only_when_the_address_says_so() {
    let server = MailServer::start(Manner::Plain, "localhost").await;
    told(&server.contact("smtp+plain://localhost:PORT", None)).await.unwrap();
    assert!(server.said(false).contains("DATA"));
}

#[tokio::test]
async fn a_stripped_starttls_gets_no_login_and_no_mail() {
    let server = MailServer::start(Manner::Stripped, "localhost").await;
    let refusal = told(&server.contact("smtp://me@localhost:PORT", Some("secret"))).await.unwrap_err();
    assert_eq!(refusal.retry, Retry::Never);
    assert!(refusal.error.message.contains("STARTTLS"), "{refusal:?}");
    let said = server.said(false);
    assert!(!said.contains("AUTH") && !said.contains("MAIL") && !said.contains("DATA"), "{said}");
}

#[tokio::test]
async fn a_certificate_for_another_name_gets_no_login_and_no_mail() {
    for manner in [Manner::StartTls, Manner::Implicit] {
        let server = MailServer::start(manner, "mail.other.example").await;
        let scheme = if manner == Manner::Implicit { "smtps" } else { "smtp" };
        let refusal = told(&server.contact(&format!("{scheme}://me@localhost:PORT"), Some("secret"))).await.unwrap_err();
        assert_eq!(refusal.retry, Retry::Never, "{refusal:?}");
        assert!(refusal.error.message.contains("mail.other.example"), "{refusal:?}");
        let said = format!("{}{}", server.said(false), server.said(true));
        assert!(!said.contains("AUTH") && !said.contains("MAIL"), "{said}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_again_and_not_told() {
    let server = MailServer::start(Manner::Implicit, "localhost").await;
    let refusal = told(&server.contact("smtps://me@localhost:PORT", Some("wrong"))).await.unwrap_err();
    assert_eq!((refusal.retry, refusal.error.kind), (Retry::Never, Kind::Refused));
    assert!(refusal.error.message.contains("535") && !refusal.error.message.contains("AG1l"), "{refusal:?}");
}

#[tokio::test]
async fn a_busy_server_is_tried_again() {
    let server = MailServer::start(Manner::Busy, "localhost").await;
    let refusal = told(&server.contact("smtp+plain://localhost:PORT", None)).await.unwrap_err();
    assert_eq!((refusal.retry, refusal.error.kind), (Retry::Later, Kind::Remote), "{refusal:?}");
}

#[tokio::test]
async fn one_closed_mailbox_does_not_silence_the_others() {
    let server = MailServer::start(Manner::Plain, "localhost").await;
    let mut contact = server.contact("smtp+plain://localhost:PORT", None);
    let Contact::Email { to, .. } = &mut contact else { unreachable!() };
    *to = vec!["gone@example.com".to_owned(), "ops@example.com".to_owned()];
    let receipt = told(&contact).await.unwrap();
    assert!(receipt.detail.contains("accepted for 1 of 2, not for `gone@example.com`"), "{receipt:?}");
    assert_eq!(server.said(false).matches("\nDATA").count(), 1);
}

#[tokio::test]
async fn a_server_that_never_answers_does_not_hold_us() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = Contact::Slack { url: format!("http://127.0.0.1:{port}/"), per_minute: None, fallback: None };
    let mail = Contact::Email {
        to: vec!["ops@example.com".to_owned()],
        from: "runbook@example.com".to_owned(),
        server: format!("smtp+plain://127.0.0.1:{port}"),
        password: None,
        ca: None,
        per_minute: None,
        fallback: None,
    };
    for contact in [web, mail] {
        let started = Instant::now();
        let refusal = deliver_within(Duration::from_millis(100), &contact, &message(), &Secrets::default()).await.unwrap_err();
        assert_eq!((refusal.retry, refusal.error.kind), (Retry::Later, Kind::Timeout));
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

/// A web server that gives one answer and keeps every request.
struct WebServer {
    port: u16,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl WebServer {
    async fn start(status: &'static str, headers: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let server = Self { port, requests: requests.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                let length =
                    head.to_lowercase().split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
                let mut content = vec![0; length];
                if stream.read_exact(&mut content).await.is_err() {
                    continue;
                }
                requests.lock().unwrap().push((head, serde_json::from_slice(&content).unwrap_or_default()));
                let answer = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook/TOKEN?access_token=TOKEN", self.port)
    }

    fn slack(&self) -> Contact {
        Contact::Slack { url: self.url(), per_minute: None, fallback: None }
    }

    fn dingtalk(&self) -> Contact {
        let secret = Some("${secret:robot}".to_owned());
        Contact::Dingtalk { url: self.url(), secret, mobiles: vec!["13800000000".to_owned()], per_minute: None, fallback: None }
    }

    fn requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().unwrap().clone()
    }
}

fn robot_secrets() -> Secrets {
    Secrets::new([("robot".to_owned(), "SEC000-robot-secret".to_owned()), ("token".to_owned(), "s3cr3t-token".to_owned())].into())
}

#[tokio::test]
async fn slack_gets_json_with_the_text_intact() {
    let server = WebServer::start("200 OK", "", "ok").await;
    assert_eq!(told(&server.slack()).await.unwrap().detail, "HTTP 200: ok");
    let [(head, body)] = &server.requests()[..] else { panic!() };
    assert!(head.starts_with("POST /hook/TOKEN?access_token=TOKEN HTTP/1.1\r\n") && head.contains("content-type: application/json"));
    assert_eq!(body["text"], "*[critical] 数据库 \"main\" does not answer*\nit's {down} \\ now");
}

#[tokio::test]
async fn answers_of_slack_decide_about_the_next_try() {
    for (status, headers, body, retry) in [
        ("429 Too Many Requests", "retry-after: 30\r\n", "", Retry::After(Duration::from_secs(30))),
        ("404 Not Found", "", "no_service", Retry::Never),
        ("410 Gone", "", "", Retry::Never),
        ("500 Internal Server Error", "", "", Retry::Later),
        ("200 OK", "", "<html>It works</html>", Retry::Later),
    ] {
        let server = WebServer::start(status, headers, body).await;
        let refusal = told(&server.slack()).await.unwrap_err();
        assert_eq!(refusal.retry, retry, "{status}");
        let everything = format!("{refusal:?}");
        assert!(!everything.contains("TOKEN") && everything.contains(&server.port.to_string()), "{everything}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = WebServer::start("200 OK", "", "ok").await;
    let location: &'static str = format!("location: http://127.0.0.1:{}/\r\n", other.port).leak();
    let server = WebServer::start("307 Temporary Redirect", location, "").await;
    assert_eq!(told(&server.slack()).await.unwrap_err().retry, Retry::Later);
    assert_eq!(other.requests(), []);
}

#[tokio::test]
async fn dingtalk_gets_a_signed_request_and_its_no_is_heard() {
    for (answer, expected) in [
        (r#"{"errcode":0,"errmsg":"ok"}"#, None),
        (r#"{"errcode":310000,"errmsg":"sign not match"}"#, Some(Retry::Never)),
        (r#"{"errcode":130101,"errmsg":"send too fast"}"#, Some(Retry::After(Duration::from_secs(600)))),
    ] {
        let server = WebServer::start("200 OK", "", answer).await;
        let result = deliver(&server.dingtalk(), &message(), &robot_secrets()).await;
        assert_eq!(result.err().map(|refusal| refusal.retry), expected, "{answer}");
        let [(head, body)] = &server.requests()[..] else { panic!() };
        let target = head.split(' ').nth(1).unwrap();
        let url = url::Url::parse(&format!("http://x{target}")).unwrap();
        let query: std::collections::BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(query["access_token"], "TOKEN");
        assert_eq!((query["timestamp"].len(), query["sign"].len()), (13, 44), "{target}");
        assert_eq!(body["at"]["atMobiles"], json!(["13800000000"]));
    }
}

#[tokio::test]
async fn each_number_gets_its_text_message_and_headers_hold_secrets() {
    let server = WebServer::start("200 OK", "", r#"{"Code":"OK"}"#).await;
    let contact = Contact::Sms {
        url: server.url(),
        to: vec!["+491".to_owned(), "+492".to_owned()],
        headers: [("Authorization".to_owned(), "Bearer ${secret:token}".to_owned())].into(),
        body: Some(json!({ "phone": "{to}", "content": "{text}" })),
        per_minute: None,
        fallback: None,
    };
    deliver(&contact, &message(), &robot_secrets()).await.unwrap();
    let mut phones: Vec<Value> = server.requests().iter().map(|(_, body)| body["phone"].clone()).collect();
    phones.sort_by_key(Value::to_string);
    assert_eq!(phones, ["+491", "+492"]);
    for (head, body) in server.requests() {
        assert!(head.contains("authorization: Bearer s3cr3t-token\r\n"), "{head}");
        assert!(body["content"].as_str().unwrap().contains("it's {down} \\ now"));
    }
}

#[tokio::test]
async fn an_answer_that_repeats_a_secret_is_masked() {
    let server = WebServer::start("500 Internal Server Error", "", "bad token s3cr3t-token").await;
    let contact = Contact::Webhook { url: server.url(), headers: Default::default(), per_minute: None, fallback: None };
    let refusal = deliver(&contact, &message(), &robot_secrets()).await.unwrap_err();
    assert_eq!(refusal.error.message, "HTTP 500: bad token ***");
}

#[tokio::test]
async fn a_missing_secret_and_a_wrong_address_never_reach_the_wire() {
    for url in ["${secret:absent}", "not an address TOKEN", "ftp://x/TOKEN"] {
        let contact = Contact::Webhook { url: url.to_owned(), headers: Default::default(), per_minute: None, fallback: None };
        let refusal = told(&contact).await.unwrap_err();
        assert_eq!(refusal.retry, Retry::Never);
        assert!(!refusal.error.message.contains("TOKEN"), "{refusal:?}");
    }
}

#[tokio::test]
async fn an_unknown_authority_gets_no_webhook() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let acceptor = acceptor(cert.der().clone(), &signing_key);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move { acceptor.accept(listener.accept().await.unwrap().0).await.is_ok() });
    let contact =
        Contact::Webhook { url: format!("https://localhost:{port}/"), headers: Default::default(), per_minute: None, fallback: None };
    let refusal = told(&contact).await.unwrap_err();
    assert_eq!(refusal.retry, Retry::Never, "{refusal:?}");
    server.abort();
    assert!(!server.await.unwrap_or(false));
}

fn system() -> System {
    let contacts = json!({
        "mail": { "kind": "email", "to": ["ops@example.com"], "from": "runbook@example.com", "server": "smtps://mail.example.com" },
        "chat": { "kind": "slack", "url": "${secret:hook}" },
        "li": { "kind": "person", "who": "Li Wei", "reach": "ext. 12" },
    });
    System {
        name: "ai-hub".to_owned(),
        language: "zh".to_owned(),
        contacts: serde_json::from_value(contacts).unwrap(),
        routes: [("critical".to_owned(), vec!["mail".to_owned(), "chat".to_owned(), "li".to_owned()])].into(),
        ..System::default()
    }
}

fn bench(allow: Value, mode: Mode) -> Bench {
    Bench::with(allow, system(), Secrets::default(), mode)
}

const SEND: &str = r#"notify::send("critical", #{ subject: "磁盘已满", text: "95 %", facts: #{ host: "db-1", used: 95 } })"#;

#[test]
fn a_route_puts_a_parcel_into_the_outbox_for_each_contact() {
    let bench = bench(json!({ "notify": ["*"] }), Mode::Apply);
    let sent = bench.eval(&format!("{SEND}.map(|sent| sent.contact + ':' + sent.kind + ':' + sent.who)")).unwrap();
    assert_eq!(format!("{sent:?}"), r#"["mail:email:", "chat:slack:", "li:person:Li Wei ext. 12"]"#);
    let questions = bench.recorder.questions();
    let [Question::Send { contact: first, message }, Question::Send { contact: second, .. }] = &questions[..] else {
        panic!("{questions:?}")
    };
    assert_eq!((first.as_str(), second.as_str()), ("mail", "chat"));
    let message: Message = serde_json::from_value(message.clone()).unwrap();
    assert_eq!((message.level, message.language.as_str()), (Urgency::Level(Level::Critical), "zh"));
    assert_eq!(message.facts, [("host".to_owned(), "db-1".to_owned()), ("used".to_owned(), "95".to_owned())]);
}

#[test]
fn nobody_is_told_when_one_of_them_may_not_be() {
    let bench = bench(json!({ "notify": ["mail"] }), Mode::Apply);
    assert_eq!(bench.error(SEND).kind, Kind::Denied);
    assert_eq!(bench.recorder.questions(), []);
}

#[test]
fn a_plan_says_who_would_get_which_subject() {
    let bench = bench(json!({ "notify": ["*"] }), Mode::Plan);
    let _ = bench.eval(SEND).unwrap();
    let _ = bench.eval(r#"notify::test("chat")"#).unwrap();
    assert_eq!(bench.recorder.questions(), []);
    let summaries: Vec<String> = bench
        .recorder
        .events()
        .into_iter()
        .filter_map(|event| match event {
            crate::model::EventKind::Effect { effect, .. } => Some(effect.summary),
            _ => None,
        })
        .collect();
    assert_eq!(
        summaries,
        [
            "send `【严重】磁盘已满` to mail (email)",
            "send `【严重】磁盘已满` to chat (slack)",
            "send `【正常】ai-hub 通知渠道测试` to chat (slack) at once",
        ]
    );
}

#[test]
fn wrong_messages_are_refused_with_their_key() {
    let bench = bench(json!({ "notify": ["*"] }), Mode::Apply);
    for (script, part) in [
        (r#"notify::send("mail", #{ subjet: "x" })"#, "unknown option `subjet`"),
        (r#"notify::send("mail", #{ subject: " " })"#, "neither `subject` nor `text`"),
        (r#"notify::send("mail", #{ subject: "x", level: "loud" })"#, "`loud` is none of sev1, critical"),
        (r#"notify::send("mial", #{ subject: "x" })"#, "no contact or route `mial`"),
    ] {
        let error = bench.error(script);
        assert!(error.message.contains(part), "{error}");
    }
}

#[test]
fn a_test_answers_what_the_channel_said() {
    let bench = bench(json!({ "notify": ["*"] }), Mode::Apply);
    let found = bench.eval(r#"let t = notify::test("chat"); [t.delivered, t.retry, t.error]"#).unwrap();
    assert_eq!(format!("{found:?}"), r#"[false, "never", "secret `hook` is not set"]"#);
}

#[test]
fn a_secret_in_a_message_is_masked_before_it_is_kept() {
    let bench = Bench::with(json!({ "notify": ["*"] }), system(), robot_secrets(), Mode::Apply);
    let _ = bench.eval(r#"notify::send("mail", #{ subject: "x", text: "is s3cr3t-token", facts: #{ token: "s3cr3t-token" } })"#).unwrap();
    let kept = format!("{:?}", bench.recorder.questions());
    assert!(!kept.contains("s3cr3t") && kept.matches("***").count() == 2, "{kept}");
}

#[test]
fn the_examples_of_the_manual_hold() {
    let bench = Bench::new(json!({ "notify": ["*"] }));
    let lines: Vec<&str> = include_str!("mod.rs").lines().filter_map(|line| line.trim().strip_prefix("///")).collect();
    let manual = lines.join("\n");
    for example in manual.split("```rhai\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        assert!(bench.eval(example).unwrap().as_bool().unwrap(), "{example}");
    }
}
