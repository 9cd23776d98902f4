//! A DingTalk robot: signed, and a failure comes as HTTP 200.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::error::Kind;
use crate::host::notify::client::{Receipt, Refusal};
use crate::host::notify::{http, words};
use crate::model::Message;

/// The robot takes 20 000 bytes; a Chinese character has three.
const LENGTH: usize = 5000;
/// So long the robot takes nothing after it was asked too often.
const BLOCKED: Duration = Duration::from_secs(600);

/// Sends it.
pub(super) async fn deliver(url: &str, secret: Option<&str>, mobiles: &[String], message: &Message) -> Result<Receipt, Refusal> {
    let mut url = http::address(url)?;
    if let Some(secret) = secret {
        let timestamp = clock().as_millisecond();
        url.query_pairs_mut().append_pair("timestamp", &timestamp.to_string()).append_pair("sign", &sign(timestamp, secret));
    }
    http::post(url, HeaderMap::new(), &body(message, mobiles), judge).await
}

#[expect(clippy::disallowed_methods, reason = "the robot compares the stamp with its own clock; a recorded time would be refused")]
fn clock() -> Timestamp {
    Timestamp::now()
}

/// base64(HMAC-SHA256(key = secret, "timestamp\nsecret")).
fn sign(timestamp: i64, secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(format!("{timestamp}\n{secret}").as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn body(message: &Message, mobiles: &[String]) -> Value {
    let critical = message.level.is_critical();
    json!({
        "msgtype": "markdown",
        "markdown": { "title": safe(&words::subject(message)), "text": text(message, mobiles) },
        "at": { "atMobiles": if critical { mobiles } else { &[] }, "isAtAll": critical },
    })
}

/// The text in the robot's Markdown; its numbers stand in the text when they are called.
pub(super) fn text(message: &Message, mobiles: &[String]) -> String {
    let content = match &message.markdown {
        Some(markdown) => words::without_mentions(&words::clean(markdown)),
        // A single line break is none in Markdown.
        None => safe(&words::body(message)).replace('\n', "  \n"),
    };
    let mut text = words::cut(&format!("### {}\n\n{content}", safe(&words::subject(message))), LENGTH);
    if message.level.is_critical() && !mobiles.is_empty() {
        let calls: Vec<String> = mobiles.iter().map(|mobile| format!("@{mobile}")).collect();
        text = format!("{text}\n\n{}", calls.join(" "));
    }
    text
}

fn safe(text: &str) -> String {
    words::without_links(&words::without_mentions(text))
}

#[derive(Debug, Deserialize)]
struct Answer {
    errcode: i64,
    #[serde(default)]
    errmsg: String,
}

fn judge(reply: http::Reply) -> Result<Receipt, Refusal> {
    let Ok(answer) = serde_json::from_str::<Answer>(&reply.body) else {
        return Err(Refusal::later(Kind::Remote, format!("an answer that is not the robot's ({})", reply.in_words())));
    };
    let said = format!("errcode {}: {}", answer.errcode, words::cut(&words::line(&answer.errmsg), 200));
    match answer.errcode {
        0 => Ok(Receipt { detail: said }),
        130_101 | 410_100 => Err(Refusal::after(BLOCKED, said)),
        310_000 => {
            Err(Refusal::never(Kind::Refused, said).hint("check the robot's secret, its keywords, its addresses, and this machine's clock"))
        }
        // No such token or robot, a dissolved group, a refused content.
        40_035 | 300_001 | 400_000..=400_999 | 430_000..=430_999 => Err(Refusal::never(Kind::Refused, said)),
        _ => Err(Refusal::later(Kind::Remote, said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::notify::client::Retry;
    use crate::model::{Level, Urgency};

    #[test]
    fn the_signature_is_the_reference_vector() {
        // Computed by Python's hmac, hashlib and base64.
        assert_eq!(sign(1_732_190_400_000, "SEC000-robot-secret"), "dmXemYpfgCZpy9+yzr9300aCHiMLqHkBQQ+/pit0kgw=");
    }

    #[test]
    fn only_critical_messages_call_people() {
        let mobiles = ["13800000000".to_owned()];
        let mut message = Message { subject: "@13900000000 数据库".to_owned(), ..Message::default() };
        assert_eq!(body(&message, &mobiles)["at"], json!({ "atMobiles": [], "isAtAll": false }));
        message.level = Urgency::Level(Level::Critical);
        let body = body(&message, &mobiles);
        assert_eq!(body["at"], json!({ "atMobiles": ["13800000000"], "isAtAll": true }));
        let text = body["markdown"]["text"].as_str().unwrap();
        assert!(text.ends_with("\n\n@13800000000") && !text.contains("@13900000000"), "{text}");
    }

    #[test]
    fn a_failure_within_http_200_is_a_failure() {
        let judge = |body: &str| judge(http::Reply { status: 200, body: body.to_owned() }).map_err(|refusal| refusal.retry);
        assert!(judge(r#"{"errcode":0,"errmsg":"ok"}"#).is_ok());
        assert_eq!(judge(r#"{"errcode":310000,"errmsg":"sign not match"}"#), Err(Retry::Never));
        assert_eq!(judge(r#"{"errcode":130101,"errmsg":"send too fast"}"#), Err(Retry::After(Duration::from_secs(600))));
        assert_eq!(judge(r#"{"errcode":-1,"errmsg":"busy"}"#), Err(Retry::Later));
        assert_eq!(judge("<html>"), Err(Retry::Later));
    }
}
