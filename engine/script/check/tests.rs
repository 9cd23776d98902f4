use super::*;

const MODULE: &str = "\
import \"lib/deep\" as deep;
export const LIMIT = 3;
fn save(part) { deep::cpu(); part }
private fn hidden() { 1 }
";

fn module(path: &str) -> Option<String> {
    match path {
        "lib/store" => Some(MODULE.to_owned()),
        "lib/deep" => Some("fn cpu() { sys::cpu() }\nfn memory() { sys::memory() }".to_owned()),
        _ => None,
    }
}

/// The findings of a script as `LINE:COLUMN CODE message`; the header is its first line.
fn found(script: &str) -> Vec<String> {
    let text = match script.starts_with("runbook") {
        true => script.to_owned(),
        false => format!("runbook(#{{ title: \"T\", allow: #{{ sys: [\"*\"] }} }});\nsys::load();\n{script}"),
    };
    let told = check_text("a", "a.rhai", &text, module);
    told.iter().map(|finding| format!("{}:{} {} {}", finding.at.line, finding.at.column, finding.code, finding.message)).collect()
}

#[track_caller]
fn expect(script: &str, findings: &[&str]) {
    assert_eq!(found(script), findings, "{script}");
}

#[test]
fn a_good_script_has_no_findings() {
    expect(
        "import \"lib/store\" as store;\nfn twice(n) { n * 2 }\nlet set = step(\"a\", #{ retry: 2, verify: || true }, || twice(store::LIMIT));\n\
         for part in [set] {\n    let part = part;\n    step(`save ${part}`, || store::save(part));\n}\ncheck(\"b\", || set > 0);\n\
         let mapped = [1].map(|x| x + set);\nlog(mapped.join(\",\").trim());\nundo(\"c\", || ());\nparallel([1], |x| x * set);",
        &[],
    );
}

#[test]
fn unknown_functions_are_found_with_what_was_meant() {
    expect("lgo(\"x\");", &["3:1 RB1102 unknown function `lgo`"]);
    expect("sys::cpuu();", &["3:6 RB1102 unknown function `sys::cpuu`"]);
    expect("memory();", &["3:1 RB1102 unknown function `memory`"]);
    expect("import \"lib/store\" as store;\nstore::svae(1);", &["4:8 RB1102 unknown function `store::svae`"]);
    expect("import \"lib/store\" as store;\nstore::hidden();", &["4:8 RB1102 unknown function `store::hidden`"]);
    expect("let f = || 1;\nf();", &["4:1 RB1102 unknown function `f`"]);
}

#[test]
fn wrong_numbers_of_arguments_are_found() {
    expect("sys::cpu(1, 2);", &["3:6 RB1104 `sys::cpu` takes 0 or 1 argument, 2 given"]);
    expect("fn f(a) { a }\nf(1, 2);", &["4:1 RB1104 `f` takes 1 argument, 2 given"]);
    expect("import \"lib/store\" as store;\nstore::save();", &["4:8 RB1104 `store::save` takes 1 argument, 0 given"]);
    expect("log();", &["3:1 RB1104 `log` takes 1 or 2 arguments, 0 given"]);
    expect("\"a\".trim(1);", &["3:5 RB1104 `trim` takes no arguments, 1 given"]);
}

#[test]
fn unknown_methods_are_found_unless_they_may_be_closures() {
    expect("[1].frobnicate();", &["3:5 RB1105 unknown method `frobnicate`"]);
    expect("let m = #{ go_on: || 1 };\nm.go_on();", &[]);
}

#[test]
fn every_unknown_variable_and_module_is_found() {
    expect(
        "log(nowhere);\nlet f = || neither;\nf.call();\ndokcer::ps();",
        &[
            "3:5 RB1101 there is no variable `nowhere`",
            "4:12 RB1101 there is no variable `neither`",
            "6:1 RB1103 there is no module `dokcer`",
        ],
    );
    expect(
        "let total = 1;\nfn f() { total }\nf();",
        &["3:5 RB1111 variable `total` is never used", "4:10 RB1101 there is no variable `total`"],
    );
}

#[test]
fn unknown_parameters_and_fields_of_the_system_are_found() {
    let header = "runbook(#{ title: \"T\", params: #{ keep: #{ type: \"int\", def: 1 } } });\n";
    expect(&format!("{header}log(`${{params::kep}} ${{params::keep}}`);"), &["2:16 RB1108 the header declares no parameter `kep`"]);
    expect(&format!("{header}log(system::nmae);"), &["1:35 RB1110 parameter `keep` is never used", "2:13 RB1108 a system has no `nmae`"]);
    expect("log(system::name);\nlog(system::backup);", &[]);
}

#[test]
fn unknown_options_and_wrong_types_are_found_at_their_key() {
    expect("sys::cpu(#{ ovre: \"1s\" });", &["3:13 RB1106 `sys::cpu` has no option `ovre`"]);
    expect("sys::cpu(#{ over: 5 });", &["3:13 RB1106 `sys::cpu`: option `over`: expected a text, found a whole number"]);
    expect("step(\"a\", #{ retyr: 2, verify: || true }, || 1);", &["3:14 RB1106 `step` has no option `retyr`"]);
    expect("check(\"a\", #{ limit: #{ wran: 1.0 } }, || 1.0);", &["3:25 RB1106 `check` has no option `limit.wran`"]);
    expect("let n = \"1s\";\nsys::cpu(#{ over: n });\nsys::cpu(#{ ovr: n });", &["5:13 RB1106 `sys::cpu` has no option `ovr`"]);
    expect("parallel([1], #{ limit: \"2\" }, |x| x);", &["3:18 RB1106 `parallel`: option `limit`: expected a whole number, found a text"]);
}

#[test]
fn what_is_not_used_is_told() {
    expect("import \"lib/store\" as store;", &["3:23 RB1109 unused import `store`"]);
    expect("let a = 1;\nlet _b = 2;", &["3:5 RB1111 variable `a` is never used"]);
    expect("const A = 1;\nfn f() { global::A }\nf();", &[]);
}

#[test]
fn a_step_changes_no_outer_variable() {
    let message = |how: &str| format!("4:16 RB1120 the step changes the outer variable `total`{how}");
    for (change, how) in
        [("total = 1", ""), ("total += 1", ""), ("total.push(1)", " by `push`"), ("total[0] = 1", ""), ("total.a.b = 1", "")]
    {
        expect(&format!("let total = [];\nstep(\"a\", || {{ {change}; }});"), &[&message(how)]);
    }
    expect(
        "let total = 0;\nstep(\"a\", || { [1].for_each(|x| total += x); });",
        &["4:33 RB1120 the step changes the outer variable `total`"],
    );
    expect("step(\"a\", || { let own = 0; own += 1; [1].for_each(|x| own += x); own });", &[]);
    expect("let list = [1];\nstep(\"a\", || list.map(|x| x).push(2));", &[]);
    expect("let n = 0;\nparallel([1], |x| { n += x; });", &["4:21 RB1121 closures that run at the same time change `n`"]);
    expect("let n = 0;\ncheck(\"a\", || { n = 1; true });", &["4:17 RB1121 the check changes the outer variable `n`"]);
}

#[test]
fn nothing_is_not_a_value() {
    expect("let a = [1];\nlet b = a.push(2);\nlog(b);", &["4:11 RB1112 `push` returns nothing, but its value is used"]);
    expect("let a = \"x\";\nlog(a.make_upper());", &["4:7 RB1112 `make_upper` returns nothing, but its value is used"]);
    expect("let a = \" x\".trim().replace(\"a\", \"b\");\nlog(a);\nlet f = |x| x.make_upper();\nf.call(a);", &[]);
    expect("fn f() { try { throw \"x\" } catch { 2 } }\nf();", &["3:36 RB1113 the value of `catch` is dropped"]);
}

#[test]
fn closures_see_functions_before_variables() {
    expect(
        "fn helper() { 1 }\nlet helper = 2;\nlet f = || helper;\nf.call();\nhelper += 1;",
        &["4:5 RB1114 `helper` is also a function of this script", "5:12 RB1114 `helper` is the function here, not the variable"],
    );
}

#[test]
fn a_kept_closure_does_not_keep_a_loop_variable() {
    let later = "keeps the loop variable `i`, which is the last one when it is called later";
    expect("let fs = [];\nfor i in 0..3 { fs.push(|| i); }", &[&format!("4:28 RB1115 the closure {later}")]);
    expect("let fs = [];\nfor i in 0..3 { let i = i; fs.push(|| i); }", &[]);
    expect(
        "for i in 0..3 { undo(\"a\", || log(`${i}`)); }",
        &["3:37 RB1115 the closure keeps the loop variable `i`, which is the last one when the undo runs"],
    );
    expect("for i in 0..3 { step(\"a\", || i); [1].map(|x| x + i); }", &[]);
}

#[test]
fn a_caught_error_is_thrown_again_as_it_was() {
    expect("try { log(\"a\"); } catch (e) { throw e; }", &["3:31 RB1116 `throw e` forgets where the error happened"]);
    expect("try { log(\"a\"); } catch (e) { log(e.message); throw; }", &[]);
}

#[test]
fn permissions_are_asked_for_as_they_are_needed() {
    expect("runbook(#{ title: \"T\" });\nsys::cpu();", &["2:6 RB1201 `sys::cpu` needs `read` of `sys`, which the header does not ask for"]);
    expect(
        "runbook(#{ title: \"T\", allow: #{ sys: [\"memory\"] } });\nsys::cpu();",
        &["2:6 RB1201 `sys::cpu` needs `read` on `cpu`, which no entry of the header covers"],
    );
    expect(
        "runbook(#{ title: \"T\", allow: #{ sys: [\"cpu\"], fs: #{ read: [\"/a\"] } } });\nsys::cpu();",
        &["1:62 RB1202 the header asks for `read` of `fs`, which nothing here needs"],
    );
    expect(
        "runbook(#{ title: \"T\", allow: #{ fs: #{ read: [\"/a/*\"], write: [\"/b/*\"] } } });\nfs::rename(\"/a/x\", \"/b/x\");",
        &["2:5 RB1201 `fs::rename` needs `remove` of `fs`, which the header does not ask for"],
    );
    expect(
        "runbook(#{ title: \"T\" });\nimport \"lib/store\" as store;\nstore::save(1);",
        &["3:8 RB1201 `sys::cpu` needs `read` of `sys`, which the header does not ask for"],
    );
    expect(
        "runbook(#{ title: \"T\" });\nimport \"lib/deep\" as deep;\nlog(`${deep::memory}`);",
        &["3:14 RB1108 `lib/deep` exports no `memory`"],
    );
}

#[test]
fn the_header_is_read_even_when_the_rest_is_wrong() {
    expect("runbook(#{});\nlgo(1);", &["1:1 RB1010 the header has no title", "2:1 RB1102 unknown function `lgo`"]);
    expect("runbook(#{ titel: \"T\" });\nlgo(1);", &["1:12 RB1003 unknown key `titel` in the header", "2:1 RB1102 unknown function `lgo`"]);
    expect("log(1", &["3:6 RB1000 `)` is missing to close the arguments list of this function call 'log'"]);
}

#[test]
fn what_a_script_needs_is_suggested() {
    let text = "runbook(#{ title: \"T\" });\nimport \"lib/store\" as store;\nstore::save(1);\nsys::memory();";
    let script = Script::read("a", "a.rhai", text, module).unwrap();
    assert_eq!(suggest_allow(&script), BTreeMap::from([("sys".to_owned(), vec!["cpu".to_owned(), "memory".to_owned()])]));
}

/// The fenced examples of the manual, by the function they explain.
fn examples() -> Vec<(String, String)> {
    let comments = Language::shared().whole().collect_fn_metadata(
        None,
        |info| Some((format!("{}::{}", info.namespace, info.metadata.name), info.metadata.comments.join("\n"))),
        false,
    );
    let mut found = Vec::new();
    for (name, comment) in comments {
        let lines: Vec<&str> = comment.lines().map(|line| line.trim_start().trim_start_matches("///")).collect();
        let mut open = None;
        for line in lines {
            match (line.trim(), &mut open) {
                ("```rhai" | "```rhai,lab", None) => open = Some(String::new()),
                ("```", Some(_)) => found.extend(open.take().map(|text: String| (name.clone(), text))),
                (_, Some(text)) => {
                    text.push_str(line);
                    text.push('\n');
                }
                _ => {}
            }
        }
    }
    found
}

#[test]
fn every_example_of_the_manual_passes_but_for_permissions() {
    let examples = examples();
    assert!(examples.len() > 50, "{}", examples.len());
    let mut wrong = Vec::new();
    for (name, example) in examples {
        let header = if example.contains("runbook(#{") { "" } else { "runbook(#{ title: \"T\" });\n" };
        let told = check_text("a", "a.rhai", &format!("{header}{example}"), module);
        wrong.extend(told.into_iter().filter(|finding| finding.code != "RB1201").map(|finding| format!("{name}: {finding:?}\n{example}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
