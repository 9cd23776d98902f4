//! A Slack-compatible webhook: `{"text": …}`, and people are pinged by nobody's log lines.

use reqwest::header::HeaderMap;
use serde_json::json;

use crate::host::notify::client::{Receipt, Refusal};
use crate::host::notify::{http, words};
use crate::model::Message;

/// Slack cuts longer texts itself, in the middle of a word.
const LENGTH: usize = 8000;

/// Sends it.
pub(super) async fn deliver(url: &str, message: &Message) -> Result<Receipt, Refusal> {
    // No previews: the channel must not fetch addresses that a log line brought.
    let body = json!({ "text": text(message), "unfurl_links": false, "unfurl_media": false });
    http::post(http::address(url)?, HeaderMap::new(), &body, http::Reply::agreed).await
}

/// The text in Slack's own markup.
pub(super) fn text(message: &Message) -> String {
    let subject = escaped(&words::subject(message));
    words::cut(&format!("*{subject}*\n{}", escaped(&words::body(message))), LENGTH)
}

/// As Slack asks for it; and as the programs that imitate it but read Markdown need it.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    words::without_links(&words::without_mentions(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_pings_nobody_and_hides_no_link() {
        let message = Message {
            subject: "disk <!channel>".to_owned(),
            text: "<https://evil.example|bank> @everyone [x](https://evil.example) a & b".to_owned(),
            ..Message::default()
        };
        let text = text(&message);
        for bad in ["<", "@everyone", "]("] {
            assert!(!text.contains(bad), "{bad} in {text}");
        }
        assert!(text.starts_with("*[ok] disk &lt;!channel&gt;*\n") && text.contains("a &amp; b"), "{text}");
    }
}
