//! The tests of a runbook: a file beside it, in which everything knows where it stands.

use serde_json::Value;

use crate::config::node::{Data, Node};
use crate::config::{Loaded, Problems, Systems, typed};
use crate::error::{Error, Kind, Place};
use crate::model::case::Cases;

/// The name of a system that stands in the file of a test.
const NAME: &str = "test";

/// A file of cases that was read.
#[derive(Debug)]
pub struct CaseFile {
    /// The cases.
    pub cases: Cases,
    /// The file as a person would name it.
    pub path: String,
    text: String,
    root: Node,
}

impl CaseFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// All that is wrong, each with its place.
    pub fn read(path: &str, text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let root = problems.parse(path, text);
        let cases: Cases = typed::read(&root, &mut problems.errors);
        let file = Self { cases, path: path.to_owned(), text: text.to_owned(), root };
        if problems.errors.is_empty() {
            problems.errors = file.oddities();
        }
        problems.or(file)
    }

    /// What types can not say.
    fn oddities(&self) -> Vec<Error> {
        let mut wrong = Vec::new();
        let mut tell = |at: &[&str], what: String, hint: &str| {
            wrong.push(Error::new(Kind::Config, what).hint(hint).at(self.place(at)));
        };
        for (at, case) in self.cases.case.iter().enumerate() {
            let index = at.to_string();
            if case.name.is_empty() {
                tell(&["case", &index], "a case has no name".to_owned(), "say what is true: `name = \"a full disk is critical\"`");
            } else if self.cases.case[..at].iter().any(|before| before.name == case.name) {
                tell(&["case", &index, "name"], format!("there are two cases `{}`", case.name), "the name is how one of them is found");
            }
        }
        let lists = self.cases.case.iter().enumerate().map(|(at, case)| (vec!["case".to_owned(), at.to_string()], &case.answer));
        for (path, answers) in lists.chain([(Vec::new(), &self.cases.answer)]) {
            for (at, answer) in answers.iter().enumerate() {
                let path = [&path[..], &["answer".to_owned(), at.to_string()]].concat();
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                if answer.call.is_empty() {
                    tell(&path, "an answer has no `call`".to_owned(), "name the function: `call = \"docker::inspect\"`");
                }
                if answer.returns.is_some() && answer.throws.is_some() {
                    tell(
                        &path,
                        format!("`{}` both returns and throws", answer.call),
                        "write one answer for each; they are given one after the other",
                    );
                }
            }
        }
        wrong
    }

    /// Where something stands; the nearest thing around it when it is not there.
    pub fn place(&self, at: &[&str]) -> Place {
        let mut depth = at.len();
        while self.root.at(&at[..depth]).is_none() {
            depth -= 1;
        }
        self.root.at(&at[..depth]).unwrap_or(&self.root).place.clone()
    }

    /// Something that is wrong with the file, at a place of it.
    pub fn wrong(&self, at: &[&str], error: Error) -> Problems {
        let error = if error.at.is_some() { error } else { error.at(self.place(at)) };
        self.shown(Problems::from(error))
    }

    /// The same problems, which may stand in this file.
    fn shown(&self, mut problems: Problems) -> Problems {
        problems.texts.insert(self.path.clone(), self.text.clone());
        problems
    }

    /// The system of a case: its own, that of the file, or that of the file with what the case changes.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, each with its place.
    pub fn system(&self, index: usize, systems: &Systems<'_>, default: &str) -> Result<Loaded, Problems> {
        let shared = self.root.at(&["system"]);
        let own = self.root.at(&["case", &index.to_string(), "system"]);
        let (Some(node), below) = (own.or(shared), own.and(shared)) else { return systems.load(default) };
        let loaded = match &node.data {
            Data::Plain(Value::String(name)) => systems.load(name).map_err(|mut problems| {
                for error in problems.errors.iter_mut().filter(|error| error.at.is_none()) {
                    error.at = Some(node.place.clone());
                }
                problems
            }),
            Data::Table(_) => systems.load_tree(NAME, laid_over(node, below)),
            _ => Err(Error::new(Kind::Config, "`system` is no name and no table").at(node.place.clone()).into()),
        };
        loaded.map_err(|problems| self.shown(problems))
    }
}

/// What a case changes of the system of its file. One that extends another has nothing to do with it.
fn laid_over(own: &Node, below: Option<&Node>) -> Node {
    let Some(below) = below.filter(|_| own.at(&["extends"]).is_none()) else { return own.clone() };
    let mut whole = match &below.data {
        Data::Table(_) => below.clone(),
        _ => {
            let mut whole = Node::empty(&below.place.file);
            if let Data::Table(entries) = &mut whole.data {
                entries.insert("extends".to_owned(), below.clone());
            }
            whole
        }
    };
    whole.overlay(own.clone());
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn read(text: &str) -> Result<CaseFile, Problems> {
        CaseFile::read("a.test.toml", text)
    }

    #[test]
    fn what_is_misspelt_is_told_with_its_place() {
        let text =
            "[[case]]\nname = \"a\"\n[case.expect]\nstaus = \"failed\"\n[[case.answer]]\ncall = \"a::b\"\nthrows = { kind = \"denid\" }\n";
        let problems = read(text).unwrap_err();
        let told: Vec<_> = problems.errors.iter().map(|error| (error.at.as_ref().unwrap().line, error.message.as_str())).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(told[0].0, 4);
        assert!(told[0].1.contains("staus") && problems.errors[0].hints[0].contains("`status`"), "{:?}", problems.errors[0]);
        assert!(told[1].0 == 7 && told[1].1.contains("denid"), "{told:?}");
    }

    #[test]
    fn two_cases_of_one_name_and_two_answers_in_one_are_refused() {
        let error = |text: &str| read(text).unwrap_err().errors.remove(0);
        assert_eq!(error("[[case]]\nname = \"a\"\n[[case]]\nname = \"a\"").message, "there are two cases `a`");
        assert_eq!(error("[[case]]").message, "a case has no name");
        let both = error("[[answer]]\ncall = \"a::b\"\nreturns = 1\nthrows = { kind = \"denied\" }");
        assert_eq!((both.message.as_str(), both.at.unwrap().line), ("`a::b` both returns and throws", 1));
    }

    #[test]
    fn a_case_has_the_system_of_its_file_with_what_it_changes() {
        let environment = Environment::default();
        let systems = Systems::new("/nowhere", &environment);
        let text = "system = \"host\"\n[[case]]\nname = \"a\"\n[[case]]\nname = \"b\"\nsystem = { title = \"B\" }\n\
                    [[case]]\nname = \"c\"\nsystem = \"hots\"\n[[case]]\nname = \"d\"\nsystem = { titel = \"D\" }\n";
        let file = read(text).unwrap();
        let host = file.system(0, &systems, "").unwrap().system;
        let changed = file.system(1, &systems, "").unwrap().system;
        assert_eq!((changed.name.as_str(), changed.title.as_str()), ("test", "B"));
        assert_eq!(changed.thresholds, host.thresholds);
        let unknown = file.system(2, &systems, "").unwrap_err();
        assert_eq!((unknown.errors[0].at.as_ref().unwrap().line, unknown.errors[0].hints.is_empty()), (9, false));
        assert_eq!(file.system(3, &systems, "").unwrap_err().errors[0].at.as_ref().unwrap().line, 12);
    }
}
