//! The header: the literal `runbook(#{…})` at the top, read from the syntax tree without running anything.

use std::collections::BTreeMap;

use rhai::{AST, Expr, FnCallExpr, Position, Stmt};
use serde_json::Value;

use crate::error::{Error, Kind, Place, Result};
use crate::model::{Header, ParamType, lock_name};
use crate::words;

/// The header and the place of each of its keys.
pub(super) fn read(ast: &AST, path: &str) -> Result<(Header, BTreeMap<String, Place>)> {
    let place =
        |position: Position| Place { file: path.to_owned(), line: position.line().unwrap_or(1), column: position.position().unwrap_or(1) };
    let Some((call, position)) = find(ast) else {
        return Err(Error::new(Kind::Script, "there is no header")
            .at(place(Position::new(1, 1)))
            .code("RB1001")
            .hint("begin with `runbook(#{ title: \"…\" });`"));
    };
    let [map @ Expr::Map(..)] = call.args.as_slice() else {
        return Err(Error::new(Kind::Script, "the header takes one literal map")
            .at(place(position))
            .code("RB1001")
            .hint("write `runbook(#{ title: \"…\" });`"));
    };
    let mut places = BTreeMap::new();
    let value = literal(map, "", &mut |key, position| {
        places.insert(key.to_owned(), place(position));
    })
    .map_err(|(key, position)| {
        Error::new(Kind::Script, format!("`{key}` in the header is not a literal value"))
            .at(place(position))
            .code("RB1002")
            .hint("the header is read without running the script; compute it in the script instead")
    })?;
    let header: Header = serde_path_to_error::deserialize(&value).map_err(|error| wrong_key(&error, &places, place(position)))?;
    check(&header, &places)?;
    Ok((header, places))
}

/// The first call of `runbook` at the top level.
fn find(ast: &AST) -> Option<(FnCallExpr, Position)> {
    ast.statements().iter().find_map(|statement| {
        let (call, position) = match statement {
            Stmt::FnCall(call, position) => (call, position),
            Stmt::Expr(expr) => match &**expr {
                Expr::FnCall(call, position) => (call, position),
                _ => return None,
            },
            _ => return None,
        };
        (call.name == "runbook" && !call.is_qualified()).then(|| ((**call).clone(), *position))
    })
}

/// Folds a literal expression; tells the place of each key on the way.
fn literal(expr: &Expr, key: &str, tell: &mut impl FnMut(&str, Position)) -> std::result::Result<Value, (String, Position)> {
    match expr {
        Expr::BoolConstant(flag, _) => Ok(Value::Bool(*flag)),
        Expr::IntegerConstant(number, _) => Ok(Value::from(*number)),
        Expr::FloatConstant(number, _) => Ok(Value::from(**number)),
        Expr::CharConstant(letter, _) => Ok(Value::String(letter.to_string())),
        Expr::StringConstant(text, _) => Ok(Value::String(text.to_string())),
        Expr::Unit(_) => Ok(Value::Null),
        Expr::Array(items, _) => items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let key = format!("{key}[{index}]");
                tell(&key, item.position());
                literal(item, &key, tell)
            })
            .collect(),
        Expr::Map(map, _) => map
            .0
            .iter()
            .map(|(name, item)| {
                let key = if key.is_empty() { name.name.to_string() } else { format!("{key}.{}", name.name) };
                tell(&key, name.pos);
                Ok((name.name.to_string(), literal(item, &key, tell)?))
            })
            .collect(),
        Expr::DynamicConstant(value, position) => crate::host::value::plain(value).map_err(|_| (key.to_owned(), *position)),
        // A negative number is a call of the minus operator.
        Expr::FnCall(call, position) if call.name == "-" && call.args.len() == 1 => match literal(&call.args[0], key, tell)? {
            Value::Number(number) if number.is_i64() => Ok(Value::from(-number.as_i64().unwrap_or_default())),
            Value::Number(number) => Ok(Value::from(-number.as_f64().unwrap_or_default())),
            _ => Err((key.to_owned(), *position)),
        },
        other => Err((key.to_owned(), other.position())),
    }
}

fn wrong_key(error: &serde_path_to_error::Error<serde_json::Error>, places: &BTreeMap<String, Place>, whole: Place) -> Error {
    let text = error.inner().to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let path = error.path().to_string();
    let unknown = text.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let known: Vec<String> =
        text.split_once("expected ").map(|(_, list)| list.split('`').skip(1).step_by(2).map(str::to_owned).collect()).unwrap_or_default();
    let key = match unknown {
        Some(name) if path == "." || path == name => name.to_owned(),
        Some(name) if path.ends_with(&format!(".{name}")) => path,
        Some(name) => format!("{path}.{name}"),
        None => path,
    };
    let at = places.get(&key).cloned().unwrap_or(whole);
    let error = match unknown {
        Some(name) => Error::new(Kind::Script, format!("unknown key `{name}` in the header")).hint(match words::nearest(name, &known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the keys are {}", words::list(&known)),
        }),
        None => Error::new(Kind::Script, format!("`{key}` in the header: {text}")),
    };
    error.at(at).code("RB1003")
}

fn check(header: &Header, places: &BTreeMap<String, Place>) -> Result<()> {
    let at = |key: &str| places.get(key).cloned().unwrap_or(Place { file: String::new(), line: 1, column: 1 });
    for section in header.allow.keys() {
        let key = format!("allow.{section}");
        let known =
            crate::host::permission::section(section).map_err(|error| Error { kind: Kind::Script, ..error }.at(at(&key)).code("RB1004"))?;
        crate::host::permission::entries_of(known, &header.allow[section])
            .map_err(|error| Error { kind: Kind::Script, ..error }.at(at(&key)).code("RB1004"))?;
    }
    if let Some(lock) = &header.lock {
        // The system is chosen when it runs; a secret is no part of a name.
        let declared = header.params.iter().filter(|(_, param)| param.kind != ParamType::Secret);
        let params = declared.map(|(name, _)| (name.clone(), Value::from("x"))).collect();
        if let Err(error) = lock_name(lock, "x", &params) {
            let message = format!("`lock` in the header: {}", error.message);
            return Err(Error { kind: Kind::Script, message, ..error }.at(at("lock")).code("RB1003"));
        }
    }
    if let Some((key, what)) = header.schedule.as_ref().and_then(crate::model::Schedule::problem) {
        let key = if key.is_empty() { "schedule".to_owned() } else { format!("schedule.{key}") };
        return Err(Error::new(Kind::Script, format!("`{key}` in the header: {what}")).at(at(&key)).code("RB1003"));
    }
    for (name, param) in &header.params {
        if let Err(error) = crate::script::params::check_declaration(name, param) {
            return Err(Error { kind: Kind::Script, ..error }.at(at(&format!("params.{name}"))).code("RB1005"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::compile;

    fn read_text(text: &str) -> Result<(Header, BTreeMap<String, Place>)> {
        read(&compile("a.rhai", text).unwrap(), "a.rhai")
    }

    #[test]
    fn a_header_is_read_without_running() {
        let (header, places) = read_text(
            "//! Manual.\n\nrunbook(#{\n  title: \"T\",\n  timeout: \"30m\",\n  params: #{ keep: #{ type: \"int\", def: -1, min: -2 } },\n  allow: #{ sys: [\"cpu\"] },\n});\nthrow \"never\";",
        )
        .unwrap();
        assert_eq!(header.title, "T");
        assert_eq!(header.params["keep"].def, Some(Value::from(-1)));
        assert_eq!((places["params.keep"].line, places["params.keep"].column), (6, 14));
    }

    #[test]
    fn errors_point_at_the_key() {
        for (text, message, line, column) in [
            ("runbook(#{ titel: \"x\" });", "unknown key `titel` in the header", 1, 12),
            ("runbook(#{ title: \"x\",\n  timeout: 5 });", "`timeout` in the header: invalid type: integer `5`, expected a string", 2, 3),
            ("runbook(#{ title: 1 + 1 });", "`title` in the header is not a literal value", 1, 21),
            ("runbook(#{ allow: #{ dokcer: [] } });", "unknown permission section `dokcer`", 1, 22),
            ("runbook(#{ title: \"x\", lock: \"a:${sytem}\" });", "`lock` in the header: unknown placeholder `${sytem}`", 1, 24),
            (
                "runbook(#{ lock: \"a\", when_locked: \"wait\" });",
                "`when_locked` in the header: found `wait`, expected `fail`, `wait 10m` or `replace`",
                1,
                23,
            ),
            (
                "runbook(#{ schedule: \"60 * * * *\" });",
                "`schedule` in the header: the minute `60` is out of range, expected 0 to 59",
                1,
                12,
            ),
            (
                "runbook(#{ schedule: #{ cron: \"@daily\", overlap: \"kill\" } });",
                "`schedule.overlap` in the header: unknown variant `kill`, expected one of `forbid`, `queue`, `replace`, `allow`",
                1,
                41,
            ),
            ("runbook(#{ schedule: #{ crn: \"@daily\" } });", "unknown key `crn` in the header", 1, 25),
            (
                "runbook(#{ schedule: #{ timezone: \"UTC\" } });",
                "`schedule` in the header: expected one of `cron`, `every` and `at`",
                1,
                12,
            ),
            ("let x = 1;", "there is no header", 1, 1),
            ("runbook(\"x\");", "the header takes one literal map", 1, 1),
            ("runbook(#{ params: #{ a: #{ typ: \"int\" } } });", "unknown key `typ` in the header", 1, 29),
        ] {
            let error = read_text(text).unwrap_err();
            let at = error.at.clone().unwrap();
            assert_eq!((error.message.as_str(), at.line, at.column), (message, line, column), "{text}");
        }
    }

    #[test]
    fn a_schedule_is_a_rule_or_a_map() {
        let schedule = |text: &str| read_text(text).unwrap().0.schedule.unwrap();
        assert_eq!(schedule("runbook(#{ schedule: \"0 3 * * *\" });").cron.unwrap().to_string(), "0 3 * * *");
        let whole = schedule("runbook(#{ schedule: #{ every: \"5m\", catch_up: \"skip\", params: #{ keep: 3 } } });");
        assert_eq!((whole.every.unwrap().to_string(), whole.params["keep"].clone()), ("5m".to_owned(), Value::from(3)));
    }

    #[test]
    fn a_call_inside_a_function_is_no_header() {
        assert!(read_text("fn f() { runbook(#{ title: \"x\" }); }").is_err());
    }
}
