//! The stable codes of errors and findings, and what `runbook explain` says of each.
//!
//! RB10xx the script can not be read, RB11xx its names and values, RB12xx its permissions; RB20xx the
//! caller, RB21xx while it runs; RB30xx permissions at run time, RB31xx limits, RB32xx plans and approvals,
//! RB33xx tests. A code never changes its meaning.

/// What there is to say of a code.
#[derive(Debug)]
pub struct Code {
    /// The code.
    pub code: &'static str,
    /// What it means, in a few words.
    pub title: &'static str,
    /// Why it matters and what to do.
    pub text: &'static str,
    /// An example that has it; empty when none can be shown.
    pub wrong: &'static str,
    /// The same, mended.
    pub right: &'static str,
}

/// What there is to say of a code; case does not matter.
pub fn explain(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|known| known.code.eq_ignore_ascii_case(code.trim()))
}

const fn code(code: &'static str, title: &'static str, text: &'static str, wrong: &'static str, right: &'static str) -> Code {
    Code { code, title, text, wrong, right }
}

/// Every code, in order.
pub const CODES: &[Code] = &[
    code(
        "RB1000",
        "the script does not compile",
        "The text is not a script of the language. The place is where the compiler gave up, which may be a little after the mistake: \
         look for a missing `;`, bracket or quote before it.",
        "let x = 1\nlog(`${x}`);",
        "let x = 1;\nlog(`${x}`);",
    ),
    code(
        "RB1001",
        "there is no header",
        "A runbook begins with one call of `runbook` with a literal map. It is read without running the script, so that `list`, `show` \
         and the permissions can be told before anything runs.",
        "runbook(title());",
        "runbook(#{ title: \"Say hello\" });",
    ),
    code(
        "RB1002",
        "a value of the header is not literal",
        "The header is read without running the script, so nothing in it can be computed. Compute it below, in the script.",
        "runbook(#{ title: \"a\" + \"b\" });",
        "runbook(#{ title: \"ab\" });",
    ),
    code(
        "RB1003",
        "a key or value of the header is wrong",
        "The header has a fixed set of keys, each with its type. Unknown keys are refused, so that a misspelt one is not silently without effect.",
        "runbook(#{ titel: \"Say hello\" });",
        "runbook(#{ title: \"Say hello\" });",
    ),
    code(
        "RB1004",
        "an entry of `allow` is wrong",
        "Permissions have sections (`fs`, `sql`, …), each with its verbs. An entry is an object, `VERB:OBJECT` or `OBJECT:VERB`.",
        "runbook(#{ title: \"T\", allow: #{ dokcer: [\"exec:web\"] } });",
        "runbook(#{ title: \"T\" });",
    ),
    code(
        "RB1005",
        "the declaration of a parameter is wrong",
        "A default has to be a value the parameter accepts itself: of its type, within `min` and `max`, matching `pattern`, one of `of`.",
        "runbook(#{ title: \"T\", params: #{ keep: #{ type: \"int\", def: \"three\" } } });\nlog(`${params::keep}`);",
        "runbook(#{ title: \"T\", params: #{ keep: #{ type: \"int\", def: 3 } } });\nlog(`${params::keep}`);",
    ),
    code(
        "RB1006",
        "the path of an import is wrong",
        "Imports are recorded before the run, so their paths are literal; and they stay inside the stdlib and the directory of the runbooks.",
        "import \"../secrets\" as secrets;",
        "log(\"without it\");",
    ),
    code(
        "RB1007",
        "a module imports itself",
        "Modules that import each other in a circle have no order in which they could be loaded. Move what both need into a third.",
        "import \"circle\" as circle;\ncircle::f();",
        "fn f() { 1 }\nf();",
    ),
    code(
        "RB1008",
        "there is no such module",
        "An import is a module of the stdlib, or a file beside the runbook: `import \"lib/a\" as a;` is `lib/a.rhai`.",
        "import \"lib/nowhere\" as nowhere;\nnowhere::f();",
        "fn f() { 1 }\nf();",
    ),
    code(
        "RB1009",
        "the script is too long",
        "Compiling a text takes more than its length in time, and nothing can interrupt it, so there is a limit. Move parts into modules and import them.",
        "",
        "",
    ),
    code(
        "RB1010",
        "the header has no title",
        "The title is the one line people see of a runbook in lists, forms and messages.",
        "runbook(#{});",
        "runbook(#{ title: \"Say hello\" });",
    ),
    code(
        "RB1101",
        "there is no such variable",
        "It is misspelt, declared later, or declared outside the function that uses it: a function sees its parameters only, while a closure sees \
         what is around it. Constants of the script are `global::NAME` in functions.",
        "let name = \"web\";\nlog(nmae);",
        "let name = \"web\";\nlog(name);",
    ),
    code(
        "RB1102",
        "there is no such function",
        "No function of this name is in the language, in the module, or in the script; or none for arguments of these types. A closure in a variable \
         is called with `name.call(…)`.",
        "lgo(\"hello\");",
        "log(\"hello\");",
    ),
    code(
        "RB1103",
        "there is no such module",
        "Functions of the host stand in modules, as in `sys::load()`; your own modules have the name that `import … as NAME` gives them.",
        "syss::load();",
        "runbook(#{ title: \"T\", allow: #{ sys: [\"load\"] } });\nsys::load();",
    ),
    code(
        "RB1104",
        "the number of arguments is wrong",
        "The function exists, but not with so many arguments. `runbook docs NAME` shows its forms. Optional settings are a map at the end: `#{ timeout: \"5s\" }`.",
        "log();",
        "log(\"hello\");",
    ),
    code(
        "RB1105",
        "there is no such method",
        "No value has a method of this name. Some that other languages have are called differently here: `runbook docs --search WORD` looks for them.",
        "[1, 2].lenght();",
        "log(`${[1, 2].len()}`);",
    ),
    code(
        "RB1106",
        "an option is unknown or has the wrong type",
        "Options are a map with a fixed set of keys, each with its type; durations are texts such as `\"5s\"`, sizes such as `\"10MiB\"`.",
        "step(\"try\", #{ retries: 2 }, || 1);",
        "step(\"try\", #{ retry: 2 }, || 1);",
    ),
    code(
        "RB1107",
        "a command is built as one text",
        "A program gets a list of words. A text with blanks is one word, which no program is called; and a text for a shell gives whoever chose the \
         value the power of that shell. Pass the words one by one.",
        "runbook(#{ title: \"T\", params: #{ dir: #{ type: \"path\", required: true } }, allow: #{ docker: [\"exec:web\"] } });\n\
         docker::exec(\"web\", [\"sh\", \"-c\", `rm -r ${params::dir}`]);",
        "runbook(#{ title: \"T\", params: #{ dir: #{ type: \"path\", required: true } }, allow: #{ docker: [\"exec:web\"] } });\n\
         docker::exec(\"web\", [\"rm\", \"-r\", params::dir]);",
    ),
    code(
        "RB1108",
        "there is no such constant",
        "`params::NAME` is a parameter the header declares, `system::NAME` a part of the system file, and `alias::NAME` a constant that the module exports.",
        "log(system::nmae);",
        "log(system::name);",
    ),
    code(
        "RB1109",
        "an import is not used",
        "It makes the script slower to read and its record longer.",
        "import \"tools\" as tools;",
        "log(\"without it\");",
    ),
    code(
        "RB1110",
        "a parameter is not used",
        "People would set it and nothing would change.",
        "runbook(#{ title: \"T\", params: #{ keep: #{ type: \"int\", def: 3 } } });",
        "runbook(#{ title: \"T\", params: #{ keep: #{ type: \"int\", def: 3 } } });\nlog(`${params::keep}`);",
    ),
    code(
        "RB1111",
        "a variable is not used",
        "Often a name was misspelt where it should be used. A name that begins with `_` says that it is meant.",
        "let a = 1;",
        "let _a = 1;",
    ),
    code(
        "RB1112",
        "the value of a function that returns nothing is used",
        "Functions such as `push`, `make_upper` and `truncate` change the value in place and return nothing.",
        "let name = \"web\";\nlog(name.make_upper());",
        "let name = \"web\";\nlog(name.to_upper());",
    ),
    code(
        "RB1113",
        "the value of `catch` is dropped",
        "`try` is a statement. Its value is returned when it is the last one of a function; that of `catch` never is.",
        "fn number() { try { throw \"no\" } catch { 2 } }\nnumber();",
        "fn number() { try { throw \"no\" } catch { return 2; } }\nnumber();",
    ),
    code(
        "RB1114",
        "a variable has the name of a function",
        "A closure that uses the name gets the function, silently, even where the variable is nearer. Rename one of them.",
        "fn limit() { 1 }\nlet limit = 2;\nlet judge = |x| x > limit;\nlog(`${judge.call(limit())}`);",
        "fn limit() { 1 }\nlet highest = 2;\nlet judge = |x| x > highest;\nlog(`${judge.call(limit())}`);",
    ),
    code(
        "RB1115",
        "a closure keeps a loop variable",
        "All turns of a loop share one variable. A closure that is called after the loop, as those of `undo` are, sees its last value. A variable \
         declared inside the loop is a new one in each turn.",
        "for part in [\"a\", \"b\"] { undo(\"discard\", || log(part)); }",
        "for part in [\"a\", \"b\"] { let part = part; undo(\"discard\", || log(part)); }",
    ),
    code(
        "RB1116",
        "an error is thrown again without its place",
        "`throw e` makes a new error at this line. `throw;` throws the one that was caught, with its place and call chain.",
        "try { log(\"a\"); } catch (e) { throw e; }",
        "try { log(\"a\"); } catch (e) { log(e.message); throw; }",
    ),
    code(
        "RB1117",
        "a text in backticks has a backslash escape",
        "In backticks a backslash is a backslash: `\\n` prints as the two signs it is. Texts in double quotes know `\\n`, `\\t` and `\\r`; texts in \
         backticks go over several lines as they are written. A text with other backslashes is taken for a pattern and not looked at.",
        "log(`one\\ntwo`);",
        "log(\"one\\ntwo\");",
    ),
    code(
        "RB1120",
        "a step changes an outer variable",
        "When a run is resumed, the steps that are done are not run again: their values come from the journal, and changes of outer variables would be \
         lost. Return the value.",
        "let total = 0;\nstep(\"count\", || { total += 1; });\nlog(`${total}`);",
        "let total = step(\"count\", || 1);\nlog(`${total}`);",
    ),
    code(
        "RB1121",
        "a check, or closures that run at the same time, change an outer variable",
        "The order in which closures of `parallel` change it is not known, and two at once are an error. A check asks and changes nothing. Return values.",
        "let sum = 0;\nparallel([1, 2], |n| { sum += n; });\nlog(`${sum}`);",
        "let sum = parallel([1, 2], |n| n).sum();\nlog(`${sum}`);",
    ),
    code(
        "RB1201",
        "the header does not ask for a permission",
        "A runbook touches only what its header asks for, so this call would be refused when it runs. `runbook check --suggest-allow` prints what the \
         header would have to say. It is a warning where the call stands in a module, which may not come to it.",
        "sys::load();",
        "runbook(#{ title: \"T\", allow: #{ sys: [\"load\"] } });\nsys::load();",
    ),
    code(
        "RB1202",
        "the header asks for a permission that nothing needs",
        "What a runbook may touch should be no more than what it does touch: it is what an approver reads.",
        "runbook(#{ title: \"T\", allow: #{ sys: [\"load\"] } });",
        "runbook(#{ title: \"T\" });",
    ),
    code(
        "RB2001",
        "a parameter is wrong or missing",
        "Every problem is told at once. `runbook show NAME` lists the parameters with their types, limits and defaults.",
        "runbook run backup -p kep=3",
        "runbook run backup -p keep=3",
    ),
    code(
        "RB2002",
        "there is no such runbook",
        "A runbook is a file `NAME.rhai` in a directory of runbooks; `runbook list` shows those there are.",
        "runbook run chekc-health",
        "runbook run check-health",
    ),
    code(
        "RB2101",
        "there is no such key in the map",
        "A misspelt key is an error here, and not silently nothing. Use `.get(\"key\", otherwise)` where it may be absent.",
        "let m = #{ name: \"web\" };\nlog(m.nmae);",
        "let m = #{ name: \"web\" };\nlog(m.get(\"title\", m.name));",
    ),
    code(
        "RB2102",
        "there is no such item in the list",
        "Positions begin at 0; -1 is the last item.",
        "let a = [1, 2];\nlog(`${a[2]}`);",
        "let a = [1, 2];\nlog(`${a[1]}`);",
    ),
    code(
        "RB2103",
        "a value has another type than is needed",
        "The message names the type that was found and the one that is needed. `type_of(x)` tells it; `parse_int`, `to_string` and the like convert.",
        "if \"yes\" { log(\"a\"); }",
        "if \"yes\" == \"yes\" { log(\"a\"); }",
    ),
    code(
        "RB2104",
        "two threads use a variable at once",
        "A closure of `parallel` held a shared variable for long while another wanted it. Return values instead of sharing.",
        "let list = [1];\nparallel([1, 2], |n| list.push(n));",
        "let list = parallel([1, 2], |n| n);\nlog(`${list}`);",
    ),
    code(
        "RB2105",
        "an operator does not work between these types",
        "Convert one of the values: `parse_int(text)`, `number.to_string()`.",
        "log(`${\"5\" - 1}`);",
        "log(`${parse_int(\"5\") - 1}`);",
    ),
    code(
        "RB3001",
        "it is not allowed",
        "Neither the header nor the policy gives this runbook the permission; nothing was touched. The hint has the entry for the header. A script can \
         not catch this.",
        "runbook(#{ title: \"T\" });\nsys::load();",
        "runbook(#{ title: \"T\", allow: #{ sys: [\"load\"] } });\nsys::load();",
    ),
    code(
        "RB3002",
        "a name leads to a network that is not allowed",
        "A granted name may resolve to public addresses only, so that a name that is changed to point inside can not be used to reach there. Name the \
         network in the entry when it is meant: `GET https://api.example.com @private`.",
        "allow: #{ http: [\"GET https://api.example.com\"] }",
        "allow: #{ http: [\"GET https://api.example.com @private\"] }",
    ),
    code(
        "RB3003",
        "a secret may not go there",
        "The runbook may use the secret, and may reach that place, but was not granted both together. The hint has the entry for the header; a \
         policy may narrow it further. A script can not catch this.",
        "allow: #{ http: [\"POST https://*\"], secrets: #{ token: [\"http:https://billing.example/*\"] } }",
        "allow: #{ http: [\"POST https://*\"], secrets: #{ token: [\"http:https://billing.example/*\", \"http:https://shop.example/*\"] } }",
    ),
    code(
        "RB3101",
        "functions call each other too deeply",
        "At most 64 calls may be open. A recursion without an end is the usual reason; use a loop.",
        "fn f(n) { f(n + 1) }\nf(0);",
        "let n = 0;\nwhile n < 100 { n += 1; }",
    ),
    code(
        "RB3102",
        "the worker crashed",
        "The process that ran the script died without a word, mostly because a value grew without end or the machine ran out of memory. What was \
         recorded until then is kept, and the run can be resumed.",
        "",
        "",
    ),
    code(
        "RB3103",
        "a step is in doubt",
        "The run was interrupted in the middle of an effect, and the step says nothing about what then holds. Look whether it was done, and say so \
         with `runbook resume RUN --step KEY=done`, `redo` or `skip`. A step that declares `idempotent` or `verify` is never in doubt.",
        "",
        "",
    ),
    code(
        "RB3104",
        "a resumed run took another way",
        "The script asked for other steps than the record has, mostly since it decides by something it reads outside of a step. Nothing was done. \
         Read what decides in a step, so that its answer is recorded; this run can only be started anew with `runbook retry`.",
        "",
        "",
    ),
    code(
        "RB3105",
        "a step is not what it declares",
        "`--repeat-steps` ran a step twice, or asked its `verify` after it was done. An `idempotent` step has to give the same both times, and \
         `verify` must say that it was done.",
        "",
        "",
    ),
    code(
        "RB3201",
        "things are not as they were when the plan was made",
        "`run --plan` does exactly what the plan says. The next change would have been another one, one more, or one less, or its target is \
         another one; it was refused before it happened, and what came before was taken back. Look at what changed, and make a new plan.",
        "",
        "",
    ),
    code(
        "RB3202",
        "this plan can not be run",
        "The script, its parameters or the system changed since the plan was made, it is out of date, was denied, or was run already. Nothing ran. \
         The hint has the command that makes a new plan.",
        "",
        "",
    ),
    code(
        "RB3203",
        "it runs only as planned and approved",
        "Something destructive is confirmed by a person: at a terminal by typing the name of the target, elsewhere by approving a plan. Make a plan, \
         have it approved, and run exactly that.",
        "",
        "",
    ),
    code(
        "RB3204",
        "the runbook asks for more than was approved",
        "With `[policy] pin = true`, a runbook runs unattended only with permissions that a person approved. Look at `runbook show NAME`, then say \
         `runbook approve NAME --reason TEXT`.",
        "",
        "",
    ),
    code(
        "RB3205",
        "this is not theirs to do",
        "`[policy.roles]` in runbook.toml says who may plan, run, approve and cancel what, and who may manage secrets and the state. Where there \
         are roles, what none of them gives is refused. `runbook audit` has who tried.",
        "",
        "",
    ),
    code(
        "RB3301",
        "a test does not say what a call answers",
        "In a test no host function touches the world: what it answers stands in the case, or at the top of its file. `runbook test` shows the \
         lines to add. What an answer looks like is in `runbook docs FUNCTION`.",
        "",
        "",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::script::check_text;

    /// The codes that stand in the sources of the engine, this table and tests left out.
    fn used(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                used(&path, found);
            } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("codes.rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                let codes = code.split("\"RB").skip(1).filter_map(|rest| rest.get(..5));
                found.extend(
                    codes
                        .filter(|code| code.ends_with('"') && code[..4].chars().all(|c| c.is_ascii_digit()))
                        .map(|code| format!("RB{}", &code[..4])),
                );
            }
        }
    }

    #[test]
    fn every_code_that_is_used_is_explained_and_no_other() {
        let mut found = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("engine"), &mut found);
        let explained: BTreeSet<String> = CODES.iter().map(|code| code.code.to_owned()).collect();
        assert_eq!(found, explained);
        assert!(CODES.is_sorted_by_key(|code| code.code));
    }

    #[test]
    fn every_example_of_a_finding_has_it_and_the_mended_one_has_none() {
        let find = |path: &str| match path {
            "circle" => Some("import \"circle\" as circle;\nfn f() { circle::f() }".to_owned()),
            "tools" => Some("fn f() { 1 }".to_owned()),
            _ => None,
        };
        let codes = |text: &str| {
            let text = if text.contains("runbook(") { text.to_owned() } else { format!("runbook(#{{ title: \"T\" }});\n{text}") };
            check_text("a", "a.rhai", &text, find).into_iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        for code in CODES.iter().filter(|code| code.code.starts_with("RB1") && !code.wrong.is_empty()) {
            assert!(codes(code.wrong).contains(&code.code.to_owned()), "{}: {:?}\n{}", code.code, codes(code.wrong), code.wrong);
            assert!(codes(code.right).is_empty(), "{}: {:?}\n{}", code.code, codes(code.right), code.right);
        }
    }

    #[test]
    fn a_code_is_found_however_it_is_written() {
        assert_eq!(explain(" rb1101").unwrap().title, "there is no such variable");
        assert!(explain("RB9999").is_none());
    }
}
