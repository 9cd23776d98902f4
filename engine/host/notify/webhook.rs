//! A webhook of one's own: a JSON object with `text` and the message.

use reqwest::header::HeaderMap;
use serde_json::{Map, Value, json};

use crate::host::notify::client::{Receipt, Refusal};
use crate::host::notify::{http, words};
use crate::model::Message;

/// Sends it.
pub(super) async fn deliver(url: &str, headers: HeaderMap, message: &Message) -> Result<Receipt, Refusal> {
    http::post(http::address(url)?, headers, &body(message), http::Reply::agreed).await
}

/// `text` for programs that only show, the rest for those that sort: `id` makes a copy recognisable.
pub(super) fn body(message: &Message) -> Value {
    let facts: Map<String, Value> = message.facts.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    json!({
        "text": format!("{}\n{}", words::subject(message), words::body(message)),
        "id": message.id,
        "subject": message.subject,
        "level": message.level,
        "detail": message.text,
        "facts": facts,
        "next": message.next,
        "language": message.language,
        "dedupe": message.dedupe,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_line_breaks_survive() {
        let message = Message { text: "say \"hi\"\n{\"a\": 1} \\ 你好".to_owned(), subject: "it's".to_owned(), ..Message::default() };
        let read: Value = serde_json::from_str(&body(&message).to_string()).unwrap();
        assert_eq!(read["detail"], message.text);
        assert_eq!(read["text"], format!("[ok] it's\n{}", message.text));
    }
}
