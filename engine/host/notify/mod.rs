//! `notify::`: messages to people, by mail, Slack, DingTalk, webhook and text message.
//!
//! A script puts messages into the outbox; delivery comes after, outside the script, and never decides
//! how the run ends. `client` delivers one message, `outbox` decides what goes when. Neither knows
//! where parcels are stored.

mod client;
mod dingtalk;
mod email;
mod http;
pub mod outbox;
mod slack;
mod sms;
#[cfg(test)]
mod tests;
mod tls;
mod webhook;
mod words;

use std::time::Instant;

use rhai::plugin::*;
use rhai::{Array, Map};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use client::{Preview, Receipt, Refusal, Retry, deliver, kind_of, preview};

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Answer, Call, Function, HostModule, Question, RhaiResultOf, value};
use crate::model::system::Contact;
use crate::model::{Effect, Message, Urgency};

/// The module `notify`.
pub const MODULE: HostModule = HostModule {
    name: "notify",
    summary: "messages to people by mail, Slack, DingTalk, webhook and text message, through an outbox that loses none",
    build: || exported_module!(api),
    functions: &[
        Function::effect("send", "send a message to each contact").needs("notify", "send", 0).options::<MessageOptions>().inside(),
        Function::effect("test", "send a message to the contact at once").needs("notify", "send", 0).options::<MessageOptions>(),
        Function::effect("flush", "deliver what is due in the outbox").needs_fixed("notify", "send", OUTBOX),
        Function::read("outbox").needs_fixed("notify", "send", OUTBOX).inside(),
        Function::pure("preview").options::<MessageOptions>(),
    ],
};

/// A longer message does not enter the outbox.
const MESSAGE_LIMIT: usize = 1024 * 1024;
/// What a grant for the outbox itself names.
const OUTBOX: &str = "outbox";

#[export_module]
mod api {
    use rhai::{Dynamic, Map};
    use serde_json::Value;

    use super::{OUTBOX, client};
    use crate::host::{Access, Answer, Call, Question, RhaiResultOf, value};
    use crate::model::Effect;

    /// Puts a message into the outbox for a contact, or for every contact of a route.
    ///
    /// When it returns the message survives a crash; it is delivered in the background, in order, with
    /// retries for a day and then to the contact's `fallback`. Whether that works does not change how
    /// the run ends. A route is a level or severity of the system file: `warning`, `critical`,
    /// `recovery`, `sev1`. Contacts of kind `person` are not sent to; they are in the answer, so that
    /// a person can tell them.
    ///
    /// ```rhai
    /// // Without contacts in the system file there is nobody to send to.
    /// let kind = "";
    /// try { notify::send("nobody", #{ subject: "disk full" }); } catch (e) { kind = e.kind; }
    /// kind == "not_found"
    /// ```
    ///
    /// ```rhai,lab
    /// let to = notify::send("critical", #{
    ///     subject: "database does not answer",
    ///     text: "three logins failed within 10 s",
    ///     facts: #{ host: "db-1", since: "12:04" },
    ///     next: "runbook run recover-database -s ai-hub",
    /// });
    /// to.len() > 0
    /// ```
    ///
    /// The message: `subject` (one line; the first line of `text` when absent), `text`, `markdown` and
    /// `html` (the same for channels that show it; make them with `report::`, which escapes), `level`
    /// (`ok`, `warning`, `critical`, `unknown` or `sev1` to `sev5`; the route's own when absent, else
    /// `ok`), `facts` (a map, or a list of `[name, value]`), `next` (the next command to type),
    /// `language` (`en` or `zh`; the system's when absent), `dedupe` (a key: the same is sent to a
    /// contact once an hour). Returns a list of `contact`, `kind`, `parcel` (its identity; nothing when the
    /// same was said within the hour), `who`.
    #[rhai_fn(return_raw, volatile)]
    pub fn send(native: NativeCallContext, to: &str, message: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "notify::send")?;
        super::send(&call, to, &message)
    }

    /// Sends a message to one contact at once, past the outbox, and says what the channel answered.
    ///
    /// It waits for 20 s at most and does not throw when the channel says no: the answer is what one
    /// wants to see. Without a message it sends a short one that says it is a test.
    ///
    /// ```rhai
    /// let kind = "";
    /// try { notify::test("nobody"); } catch (e) { kind = e.kind; }
    /// kind == "not_found"
    /// ```
    ///
    /// ```rhai,lab
    /// notify::test("mail").delivered
    /// ```
    ///
    /// Takes a message as `notify::send` does. Returns `contact`, `kind`, `delivered`, `detail` (what
    /// the channel said), `error` and `hint` (nothing when delivered), `retry` (`later`, `never` or so
    /// many seconds; nothing when delivered), `took_ms`.
    #[rhai_fn(name = "test", return_raw, volatile)]
    pub fn test_with(native: NativeCallContext, contact: &str, message: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "notify::test")?;
        super::test(&call, contact, &message)
    }

    /// Sends a test message to one contact at once.
    #[rhai_fn(return_raw, volatile)]
    pub fn test(native: NativeCallContext, contact: &str) -> RhaiResultOf<Dynamic> {
        test_with(native, contact, Map::new())
    }

    /// Delivers what is due in the outbox now, instead of in the background.
    ///
    /// ```rhai
    /// let standing = notify::flush();
    /// standing == () || standing.queued >= 0
    /// ```
    ///
    /// Waits up to 10 s for messages that are not due yet, and up to 20 s for the answer of a channel.
    /// Where another process delivers already it waits for nothing. Needs `notify: ["outbox"]`. Returns
    /// how the outbox stands then, as `notify::outbox` does.
    #[rhai_fn(return_raw, volatile)]
    pub fn flush(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "notify::flush")?;
        call.permit(&Access::word("notify", "send", OUTBOX))?;
        let effect = Effect::new("notify::flush", OUTBOX, "deliver what is due in the outbox");
        let ctx = call.ctx().clone();
        let answer = call.effect(effect, Value::Null, async move { ctx.recorder().ask(Question::Flush).map(Answer::into_value) })?;
        call.answer(&answer)
    }

    /// How the outbox stands: how many messages wait, were delivered, or were given up.
    ///
    /// ```rhai
    /// let standing = notify::outbox();
    /// standing == () || !standing.silent
    /// ```
    ///
    /// Needs `notify: ["outbox"]`. Returns `queued`, `delivered`, `dead` (counts; the last two of about a
    /// week), `failing` (the `project`, `system` and `contact` of channels whose last try failed),
    /// `silent` (whether that is all of them).
    #[rhai_fn(return_raw, volatile)]
    pub fn outbox(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "notify::outbox")?;
        call.permit(&Access::word("notify", "send", OUTBOX))?;
        let answer = call.ctx().recorder().ask(Question::Outbox).map_err(|error| call.fail(error))?;
        Ok(value::dynamic(&answer.into_value()))
    }

    /// What a contact would get: nothing is sent, and secrets are masked.
    ///
    /// ```rhai
    /// let kind = "";
    /// try { notify::preview("nobody", #{ text: "x" }); } catch (e) { kind = e.kind; }
    /// kind == "not_found"
    /// ```
    ///
    /// ```rhai,lab
    /// notify::preview("mail", #{ subject: "disk full", level: "critical" }).subject.contains("disk full")
    /// ```
    ///
    /// Takes a message as `notify::send` does. Returns `kind`, `to`, `subject`, `body`.
    #[rhai_fn(return_raw, volatile)]
    pub fn preview(native: NativeCallContext, contact: &str, message: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "notify::preview")?;
        let message = super::message(&call, &message, None)?;
        let found = super::contact(&call, contact)?;
        call.value(&client::preview(&found, &message, call.ctx().secrets()))
    }
}

/// A message as a script writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MessageOptions {
    subject: String,
    text: String,
    markdown: Option<String>,
    html: Option<String>,
    level: Option<String>,
    facts: Facts,
    next: Option<String>,
    language: Option<String>,
    dedupe: Option<String>,
}

/// Names and values, in alphabetical order as a map, or in one's own as a list of pairs.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Facts {
    Map(serde_json::Map<String, Value>),
    List(Vec<(String, Value)>),
}

impl Default for Facts {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Facts {
    fn pairs(self) -> Vec<(String, String)> {
        let in_words = |value: Value| match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            other => other.to_string(),
        };
        match self {
            Self::Map(map) => map.into_iter().map(|(name, value)| (name, in_words(value))).collect(),
            Self::List(list) => list.into_iter().map(|(name, value)| (name, in_words(value))).collect(),
        }
    }
}

/// What became of a message for one contact.
#[derive(Debug, Serialize, Deserialize)]
struct Sent {
    contact: String,
    kind: String,
    parcel: Value,
    /// Who has to be told by a person.
    who: Option<String>,
}

/// What a channel answered to a test.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tested {
    contact: String,
    kind: String,
    delivered: bool,
    detail: Option<String>,
    error: Option<String>,
    hint: Option<String>,
    retry: Value,
    took_ms: u64,
}

fn send(call: &Call<'_>, to: &str, message: &Map) -> RhaiResultOf<Dynamic> {
    let system = call.ctx().system();
    let is_route = !system.contacts.contains_key(to) && system.routes.contains_key(to);
    let names = if is_route { system.routes[to].clone() } else { vec![to.to_owned()] };
    let message = self::message(call, message, Urgency::parse(to).filter(|_| is_route))?;
    // All or none: a missing grant is found before anyone is told.
    let mut contacts = Vec::new();
    for name in names {
        call.permit(&Access::word("notify", "send", &name))?;
        contacts.push((contact(call, &name)?, name));
    }
    let mut sent = Array::new();
    for (contact, name) in contacts {
        let result = match contact {
            Contact::Person { who, reach } => Sent {
                contact: name,
                kind: "person".to_owned(),
                parcel: Value::Null,
                who: Some(format!("{who} {reach}").trim().to_owned()),
            },
            contact => queue(call, &name, &contact, &message)?,
        };
        let queued = result.who.is_none();
        let mut told = call.value(&result)?;
        if queued && let Some(mut told) = told.write_lock::<Map>() {
            told.insert("parcel".into(), call.answer(&result.parcel)?);
        }
        sent.push(told);
    }
    Ok(sent.into())
}

fn queue(call: &Call<'_>, name: &str, contact: &Contact, message: &Message) -> RhaiResultOf<Sent> {
    let kind = kind_of(contact);
    let subject = preview(contact, message, call.ctx().secrets()).subject;
    let effect = Effect::new("notify::send", name, format!("send `{subject}` to {name} ({kind})"));
    let ctx = call.ctx().clone();
    let question = Question::Send { contact: name.to_owned(), message: serde_json::to_value(message).unwrap_or_default() };
    let sent = |parcel: Value| Sent { contact: name.to_owned(), kind: kind.to_owned(), parcel, who: None };
    let work = async move { ctx.recorder().ask(question).map(Answer::into_value) };
    call.effect(effect, sent(Value::Null), async { work.await.map(sent) })
}

fn test(call: &Call<'_>, name: &str, message: &Map) -> RhaiResultOf<Dynamic> {
    call.permit(&Access::word("notify", "send", name))?;
    let contact = contact(call, name)?;
    let kind = kind_of(&contact).to_owned();
    let message = if message.is_empty() { test_message(call) } else { self::message(call, message, None)? };
    let subject = preview(&contact, &message, call.ctx().secrets()).subject;
    let effect = Effect::new("notify::test", name, format!("send `{subject}` to {name} ({kind}) at once"));
    let unanswered = Tested { contact: name.to_owned(), kind, ..Tested::default() };
    let secrets = call.ctx().secrets().clone();
    let tested = call.effect(effect, unanswered.clone(), async move {
        let started = Instant::now();
        let answer = deliver(&contact, &message, &secrets).await;
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(answered(Tested { took_ms, ..unanswered }, answer))
    })?;
    call.answer(&tested)
}

fn answered(tested: Tested, answer: Result<Receipt, Refusal>) -> Tested {
    match answer {
        Ok(receipt) => Tested { delivered: true, detail: Some(receipt.detail), ..tested },
        Err(refusal) => {
            let retry = match refusal.retry {
                Retry::After(wait) => wait.as_secs().into(),
                Retry::Later => "later".into(),
                Retry::Never => "never".into(),
            };
            Tested { error: Some(refusal.error.message), hint: refusal.error.hints.into_iter().next(), retry, ..tested }
        }
    }
}

fn test_message(call: &Call<'_>) -> Message {
    let system = call.ctx().system();
    let language = language(call, None);
    let title = if system.title.is_empty() { &system.name } else { &system.title };
    let (subject, text) = match language.as_str() {
        "zh" => (format!("{title} 通知渠道测试"), "这是一条测试消息，无需处理。"),
        _ => (format!("{title}: test of this channel").trim_start_matches(": ").to_owned(), "This is a test. Nothing has to be done."),
    };
    Message { subject, text: text.to_owned(), language, ..Message::default() }
}

/// The contact of this name.
fn contact(call: &Call<'_>, name: &str) -> RhaiResultOf<Contact> {
    let system = call.ctx().system();
    if let Some(contact) = system.contacts.get(name) {
        return Ok(contact.clone());
    }
    let error = Error::new(Kind::NotFound, format!("system `{}` has no contact or route `{name}`", system.name)).target(name);
    Err(call.fail(error.suggest_or(
        name,
        system.contacts.keys().chain(system.routes.keys()),
        || "name it in the system file: `[contacts.NAME]`, `[routes]`",
    )))
}

fn message(call: &Call<'_>, map: &Map, level: Option<Urgency>) -> RhaiResultOf<Message> {
    // As plain data, so that a secret in it is `***`.
    let plain = value::plain(&Dynamic::from_map(map.clone())).map_err(|error| call.fail(error))?;
    let options: MessageOptions = call.options(value::dynamic(&plain).cast())?;
    let invalid = |text: String| call.fail(Error::new(Kind::Invalid, text));
    // Mail would take what follows for a header; folded, it would read as if someone had meant it.
    if options.subject.contains(['\r', '\n']) {
        let error = Error::new(Kind::Invalid, "option `subject`: it holds a line break");
        return Err(call.fail(error.hint("a subject is one line; put the rest into `text`")));
    }
    if options.subject.trim().is_empty() && options.text.trim().is_empty() {
        return Err(invalid("the message has neither `subject` nor `text`".to_owned()));
    }
    let level = match options.level.as_deref() {
        None => level.unwrap_or_default(),
        Some(name) => Urgency::parse(name).ok_or_else(|| {
            let names: Vec<&str> = Urgency::ALL.into_iter().map(Urgency::name).collect();
            invalid(format!("option `level`: `{name}` is none of {}", names.join(", ")))
        })?,
    };
    let length =
        [Some(&options.text), options.markdown.as_ref(), options.html.as_ref()].into_iter().flatten().map(String::len).sum::<usize>();
    if length > MESSAGE_LIMIT {
        let error = Error::new(Kind::Limit, format!("the message has {length} bytes, more than {MESSAGE_LIMIT}"));
        return Err(call.fail(error.hint("keep the text with the run by `output`, and send where to find it")));
    }
    // The outbox is kept and read by others: a secret must not get that far.
    let masked = |text: String| client::masked(&text, call.ctx().secrets());
    Ok(Message {
        id: None,
        subject: masked(options.subject),
        text: masked(options.text),
        markdown: options.markdown.map(masked),
        html: options.html.map(masked),
        level,
        facts: options.facts.pairs().into_iter().map(|(name, value)| (masked(name), masked(value))).collect(),
        next: options.next.map(masked),
        language: language(call, options.language),
        dedupe: options.dedupe.map(masked),
    })
}

fn language(call: &Call<'_>, asked: Option<String>) -> String {
    asked.or_else(|| Some(call.ctx().system().language.clone())).filter(|language| !language.is_empty()).unwrap_or_else(|| "en".to_owned())
}
