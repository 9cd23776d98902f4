//! Mail by SMTP: encrypted unless said openly, and nothing is sent before it is.

use std::path::Path;

use lettre::address::Envelope;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use url::{Url, form_urlencoded};

use crate::error::{Error, Kind, Result, chain};
use crate::host::Secrets;
use crate::host::notify::client::{CONNECT_TIMEOUT, Receipt, Refusal, Retry, together};
use crate::host::notify::{tls, words};
use crate::host::trust::{self, Trust};
use crate::model::Message;

/// The server that takes the mail.
pub(super) struct Relay {
    host: String,
    port: u16,
    security: Security,
    credentials: Option<Credentials>,
    ca: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS after STARTTLS, or nothing at all.
    StartTls,
    /// None, because the address says so.
    Plain,
}

impl Relay {
    /// Reads `smtps://user@host:465`, `smtp://host:587` or `smtp+plain://host:25`.
    ///
    /// # Errors
    ///
    /// `config`, when it is none of them, or a password would go over the wire for all to read.
    pub(super) fn read(server: &str, password: Option<&str>, ca: Option<&str>, secrets: &Secrets) -> Result<Self> {
        let bad = |what: &str| Error::new(Kind::Config, format!("the mail server of the contact {what}"));
        let server = secrets.reveal(server)?;
        let url = Url::parse(&server).map_err(|error| bad(&format!("has no address: {error}")))?;
        let (security, default_port) = match url.scheme() {
            "smtps" => (Security::Tls, 465),
            "smtp" => (Security::StartTls, 587),
            "smtp+plain" => (Security::Plain, 25),
            other => return Err(bad(&format!("begins with `{other}`, not with `smtps`, `smtp` or `smtp+plain`"))),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("has no host"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let password = match password {
            Some(password) => Some(secrets.reveal(password)?),
            None => url.password().map(decoded),
        };
        let user = decoded(url.username());
        let credentials = match (user.is_empty(), password) {
            (true, None) => None,
            (true, Some(_)) => return Err(bad("has a password and no user").hint("write the address like `smtps://user@host`")),
            (false, None) => return Err(bad("has a user and no password").hint("set `password` to a `${secret:NAME}`")),
            (false, Some(password)) => Some(Credentials::new(user, password)),
        };
        if security == Security::Plain && credentials.is_some() {
            return Err(bad("is spoken to without TLS, so it gets no password").hint("use `smtps://` or `smtp://`"));
        }
        let port = url.port().unwrap_or(default_port);
        Ok(Self { host, port, security, credentials, ca: ca.map(str::to_owned) })
    }

    fn tls(&self) -> Result<TlsParameters, Refusal> {
        // The library asks the process for its cryptography.
        trust::provider();
        let unusable = |error: SmtpError| Refusal::never(Kind::Config, format!("no TLS with this contact: {}", chain(&error)));
        let mut builder = TlsParameters::builder(self.host.clone());
        if let Trust::Only(authorities) = Trust::of_file(self.ca.as_deref().map(Path::new))? {
            builder = builder.certificate_store(CertificateStore::None);
            for authority in authorities {
                builder = builder.add_root_certificate(Certificate::from_der(authority.to_vec()).map_err(unusable)?);
            }
        }
        builder.build().map_err(unusable)
    }

    /// Connects, encrypts and logs in, in this order; each step only after the one before it.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Refusal> {
        let name = ClientId::default();
        let wrapped = if self.security == Security::Tls { Some(self.tls()?) } else { None };
        let connecting = AsyncSmtpConnection::connect_tokio1((self.host.as_str(), self.port), Some(CONNECT_TIMEOUT), &name, wrapped, None);
        let mut connection = connecting.await.map_err(|error| refused(Kind::Refused, "no connection", &error))?;
        if self.security == Security::StartTls {
            if !connection.can_starttls() {
                connection.abort().await;
                return Err(Refusal::never(Kind::Refused, "the server does not offer STARTTLS; nothing was sent")
                    .hint("someone may be in between; if not, use `smtps://`, or `smtp+plain://` to send it for all to read"));
            }
            connection
                .starttls(self.tls()?, &name)
                .await
                .map_err(|error| refused(Kind::Refused, "no encryption; nothing was sent", &error))?;
        }
        if let Some(credentials) = &self.credentials {
            let mechanisms = [Mechanism::Plain, Mechanism::Login];
            let logged_in = connection.auth(&mechanisms, credentials).await;
            logged_in.map_err(|error| refused(Kind::Refused, "not logged in", &error).hint("check user and password of the contact"))?;
        }
        Ok(connection)
    }

    async fn send(&self, envelope: &Envelope, mail: &[u8]) -> Result<Receipt, Refusal> {
        let mut connection = self.connect().await?;
        let response = connection.send(envelope, mail).await.map_err(|error| refused(Kind::Remote, "not accepted", &error))?;
        // It has the mail; how the goodbye goes does not matter.
        let _ = connection.quit().await;
        let said: Vec<&str> = response.message().collect();
        Ok(Receipt { detail: words::cut(&words::line(&format!("{} {}", response.code(), said.join(" "))), 200) })
    }
}

/// Sends it to all in one go; when someone is refused for good, to each alone, so that one closed
/// mailbox does not silence the others.
pub(super) async fn deliver(relay: &Relay, from: &str, to: &[String], message: &Message) -> Result<Receipt, Refusal> {
    let mail = mail(from, to, message)?;
    let bytes = mail.formatted();
    let target = format!("{}:{}", relay.host, relay.port);
    let all = relay.send(mail.envelope(), &bytes).await;
    let is_recipient = |refusal: &Refusal| refusal.retry == Retry::Never && refusal.error.kind == Kind::Remote;
    match all {
        Err(refusal) if to.len() > 1 && is_recipient(&refusal) => {
            let mut answers = Vec::new();
            for (name, address) in to.iter().zip(mail.envelope().to()) {
                let envelope = Envelope::new(mail.envelope().from().cloned(), vec![address.clone()]);
                let envelope = envelope.map_err(|error| Refusal::never(Kind::Config, error.to_string()))?;
                answers.push((name.as_str(), relay.send(&envelope, &bytes).await));
            }
            together(answers)
        }
        answer => answer,
    }
    .map_err(|refusal| refusal.target(target))
}

fn mail(from: &str, to: &[String], message: &Message) -> Result<lettre::Message, Refusal> {
    let from = mailbox(from)?;
    let mut builder = lettre::Message::builder().subject(words::subject(message)).from(from.clone());
    for address in to {
        builder = builder.to(mailbox(address)?);
    }
    if let Some(id) = &message.id {
        let id: String = id.chars().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.')).collect();
        builder = builder.message_id(Some(format!("<{id}@{}>", from.email.domain())));
    }
    // Keeps absence notes from answering.
    let automatic = HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
    let builder = builder.raw_header(automatic);
    let text = words::body(message);
    match &message.html {
        Some(html) => builder.multipart(MultiPart::alternative_plain_html(text, words::clean(html))),
        None => builder.singlepart(SinglePart::plain(text)),
    }
    .map_err(|error| Refusal::never(Kind::Config, format!("no mail could be made: {}", chain(&error))))
}

fn mailbox(address: &str) -> Result<Mailbox, Refusal> {
    let bad = || Refusal::never(Kind::Config, format!("`{}` is not a mail address", words::line(address)));
    if address.chars().any(char::is_control) {
        return Err(bad());
    }
    address.parse().map_err(|_| bad())
}

/// A part of an address without its percent signs.
fn decoded(text: &str) -> String {
    // A form would read these as its own.
    let text = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

/// What the library's error means; a final no of the server is of this kind.
fn refused(no: Kind, what: &str, error: &SmtpError) -> Refusal {
    if let Some(why) = tls::certificate_error(error) {
        return Refusal::never(Kind::Refused, format!("{why}; nothing was sent"))
            .hint("it must be valid for the host in `server`, and its authority the machine's or the one in `ca`");
    }
    let said = format!("{what}: {}", words::cut(&words::line(&chain(error)), 300));
    match error {
        error if error.is_permanent() => Refusal::never(no, said),
        error if error.is_client() => Refusal::never(Kind::Refused, said),
        error if error.is_timeout() => Refusal::later(Kind::Timeout, said),
        error if error.is_transient() || error.is_response() => Refusal::later(Kind::Remote, said),
        _ => Refusal::later(Kind::Connect, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(server: &str, password: Option<&str>) -> Result<Relay> {
        Relay::read(server, password, None, &Secrets::default())
    }

    #[test]
    fn the_scheme_decides_about_encryption() {
        let secured = |server: &str| relay(server, None).map(|relay| (relay.security, relay.port)).unwrap();
        assert_eq!(secured("smtps://mail.example.com"), (Security::Tls, 465));
        assert_eq!(secured("smtp://mail.example.com"), (Security::StartTls, 587));
        assert_eq!(secured("smtp+plain://mail.example.com:2525"), (Security::Plain, 2525));
        assert!(relay("http://mail.example.com", None).is_err());
    }

    #[test]
    fn a_password_needs_a_user_and_encryption() {
        assert!(relay("smtps://mail.example.com", Some("x")).is_err());
        assert!(relay("smtps://me@mail.example.com", None).is_err());
        assert!(relay("smtp+plain://me@mail.example.com", Some("x")).is_err());
        assert!(relay("smtps://alerts@example.com@mail.example.com", Some("x")).unwrap().credentials.is_some());
        assert_eq!(decoded("alerts%40example.com"), "alerts@example.com");
        assert_eq!(decoded("a+b&c=d"), "a+b&c=d");
    }

    #[test]
    fn line_breaks_make_no_headers() {
        let message = Message { subject: "hi\r\nBcc: eve@example.com".to_owned(), text: "x".to_owned(), ..Message::default() };
        let mail = String::from_utf8(mail("a@example.com", &["b@example.com".to_owned()], &message).unwrap().formatted()).unwrap();
        assert!(!mail.contains("\nBcc:"), "{mail}");
        for address in ["b@example.com\r\nBcc: eve@example.com", "b@example.com\nx"] {
            assert!(super::mail("a@example.com", &[address.to_owned()], &message).is_err());
            assert!(super::mail(address, &["b@example.com".to_owned()], &message).is_err());
        }
    }

    #[test]
    fn a_second_try_carries_the_same_identity() {
        let message = Message { id: Some("0190-ab>\r\n".to_owned()), text: "x".to_owned(), ..Message::default() };
        let mail = String::from_utf8(mail("a@example.com", &["b@example.com".to_owned()], &message).unwrap().formatted()).unwrap();
        assert!(mail.contains("Message-ID: <0190-ab@example.com>\r\n"), "{mail}");
    }
}
