//! As much of Markdown as pages use.

use std::path::PathBuf;

/// A page, taken apart.
pub(super) struct Page {
    pub(super) path: PathBuf,
    pub(super) blocks: Vec<Block>,
    /// Everything that is not in a block.
    pub(super) prose: String,
    /// What links can lead to.
    pub(super) anchors: Vec<String>,
}

/// A fenced block.
pub(super) struct Block {
    pub(super) language: String,
    /// What stands after the language: `example`, or nothing.
    pub(super) kind: String,
    pub(super) text: String,
    /// Where its fence opens.
    pub(super) line: usize,
    page: PathBuf,
}

impl Page {
    pub(super) fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut page = Self { path: path.canonicalize().unwrap(), blocks: Vec::new(), prose: String::new(), anchors: Vec::new() };
        let mut open: Option<Block> = None;
        for (index, line) in text.lines().enumerate() {
            match (&mut open, line.strip_prefix("```")) {
                (Some(_), Some("")) => page.blocks.extend(open.take()),
                (Some(block), _) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(info)) => {
                    let (language, kind) = info.split_once(',').unwrap_or((info, ""));
                    open = Some(Block {
                        language: language.to_owned(),
                        kind: kind.to_owned(),
                        text: String::new(),
                        line: index + 1,
                        page: path.clone(),
                    });
                }
                (None, None) => {
                    page.prose.push_str(line);
                    page.prose.push('\n');
                    if let Some(heading) = line.strip_prefix('#') {
                        page.anchors.push(anchor(heading.trim_start_matches('#').trim()));
                    }
                }
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", path.display());
        page
    }

    /// Its path as people write it.
    pub(super) fn name(&self) -> String {
        self.path.strip_prefix(super::root()).unwrap_or(&self.path).display().to_string()
    }
}

impl Block {
    /// The file it is, if its first line says so.
    pub(super) fn file(&self) -> Option<&str> {
        let first = self.text.lines().next()?;
        let path = first.strip_prefix("// ").or_else(|| first.strip_prefix("# "))?;
        let is_path = !path.contains(' ') && [".rhai", ".toml"].iter().any(|ending| path.ends_with(ending));
        is_path.then_some(path)
    }

    /// Puts what a command printed into the page, in the place of what was shown after it.
    pub(super) fn replace(&self, command: &str, shown: &str, printed: &str) {
        let page = std::fs::read_to_string(&self.page).unwrap();
        let last = command.lines().last().unwrap_or_default();
        let page = page.replacen(&format!("{last}\n{shown}"), &format!("{last}\n{printed}\n"), 1);
        std::fs::write(&self.page, page).unwrap();
    }

    pub(super) fn info(&self) -> String {
        if self.kind.is_empty() { self.language.clone() } else { format!("{},{}", self.language, self.kind) }
    }
}

/// What a link to a heading says, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
        .map(|l| if l == ' ' { '-' } else { l })
        .collect()
}
