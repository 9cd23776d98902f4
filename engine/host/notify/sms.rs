//! Text messages by an HTTP gateway: one request per number, short.

use futures_util::future::join_all;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::error::Kind;
use crate::host::notify::client::{Receipt, Refusal, together};
use crate::host::notify::{http, words};
use crate::model::Message;

/// Four or five parts of a text message; nobody reads more on a lock screen.
const LENGTH: usize = 300;

/// Sends it to every number.
pub(super) async fn deliver(
    url: &str,
    headers: HeaderMap,
    to: &[String],
    template: Option<&Value>,
    message: &Message,
) -> Result<Receipt, Refusal> {
    let url = http::address(url)?;
    let default = json!({ "to": "{to}", "text": "{text}" });
    let text = text(message);
    let send = async |number: &String| {
        let body = filled(template.unwrap_or(&default), number, &text);
        http::post(url.clone(), headers.clone(), &body, agreed).await
    };
    let answers = join_all(to.iter().map(send)).await;
    together(to.iter().map(String::as_str).zip(answers).collect())
}

/// The subject and the beginning of the text, on one line.
pub(super) fn text(message: &Message) -> String {
    let text = words::line(&message.text.replace('\n', " "));
    let subject = words::subject(message);
    let all = if text.is_empty() || subject.ends_with(&text) { subject } else { format!("{subject}: {text}") };
    words::cut(&all, LENGTH)
}

/// The template with its places filled inside the texts, so that nothing in them is read as JSON.
fn filled(template: &Value, to: &str, text: &str) -> Value {
    match template {
        // In one pass: a text that holds `{to}` stays as it is.
        Value::String(place) => {
            let parts: Vec<String> = place.split("{text}").map(|part| part.replace("{to}", to)).collect();
            parts.join(text).into()
        }
        Value::Array(items) => items.iter().map(|item| filled(item, to, text)).collect(),
        Value::Object(map) => map.iter().map(|(key, item)| (key.clone(), filled(item, to, text))).collect(),
        other => other.clone(),
    }
}

/// Gateways say no within HTTP 200, in a field called like this.
fn agreed(reply: http::Reply) -> Result<Receipt, Refusal> {
    let answer: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let code = ["code", "Code"].iter().find_map(|name| answer.get(name));
    let accepted = match code {
        Some(Value::String(code)) => ["ok", "0", "200", "success"].contains(&code.to_lowercase().as_str()),
        Some(Value::Number(code)) => matches!(code.as_i64(), Some(0 | 200)),
        _ => true,
    };
    match accepted {
        true => reply.agreed(),
        false => Err(Refusal::later(Kind::Remote, format!("not accepted ({})", reply.in_words()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_without_reading_the_text() {
        let template = json!({ "to": ["{to}"], "content": "ops: {text}", "kind": 1 });
        let body = filled(&template, "+49123", "\"}, {to} \n");
        assert_eq!(body, json!({ "to": ["+49123"], "content": "ops: \"}, {to} \n", "kind": 1 }));
    }

    #[test]
    fn a_text_message_is_short_and_on_one_line() {
        let message = Message { subject: "disk full".to_owned(), text: "a\nb ".repeat(500), ..Message::default() };
        let text = text(&message);
        assert!(text.starts_with("[ok] disk full: a b a b") && text.chars().count() < LENGTH + 12, "{text}");
    }

    #[test]
    fn a_gateway_that_says_no_within_http_200_is_not_believed() {
        let agreed = |body: &str| agreed(http::Reply { status: 200, body: body.to_owned() }).is_ok();
        assert!(agreed("") && agreed(r#"{"Code":"OK"}"#) && agreed(r#"{"code":0}"#));
        assert!(!agreed(r#"{"Code":"isv.BUSINESS_LIMIT_CONTROL"}"#) && !agreed(r#"{"code":17}"#));
    }
}
