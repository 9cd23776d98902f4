//! What holds a run when its script, or a program it starts, wants out: seen from outside, by what was reached.

mod files;
mod programs;
mod protected;

use crate::harness::{Done, Project};

/// Runs a script with these grants in a project.
fn run_in(project: Project, allow: &str, body: &str) -> Done {
    let text = format!("runbook(#{{ title: \"t\", allow: #{{ {allow} }} }});\n{body}");
    project.runbook("test", &text).command(["run", "test", "--json", "--timeout", "100s"]).run()
}

fn run(allow: &str, body: &str) -> Done {
    run_in(Project::new(), allow, body)
}
