//! Processes as `/proc/PID/stat` tells of them.

/// A process as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The name of its program, cut by the kernel.
    pub(crate) name: String,
    /// One letter, as of proc(5).
    pub(crate) state: char,
    /// The process that started it, or took it over.
    pub(crate) parent: u32,
    /// The ticks of the clock it used so far.
    pub(crate) ticks: u64,
    /// How many threads it has.
    pub(crate) threads: u64,
    /// When it started, in ticks after boot.
    pub(crate) started: u64,
    /// The memory it holds, in bytes.
    pub(crate) memory: u64,
}

impl Stat {
    /// The process of this number; nothing when there is none.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        Self::read(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn read(text: &str) -> Option<Self> {
        // The name may itself hold blanks and brackets; what follows the last one does not.
        let (_, rest) = text.split_once(" (")?;
        let (name, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // Numbered as in proc(5), where the state is the third.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: number(4)?.try_into().ok()?,
            ticks: number(14)? + number(15)?,
            threads: number(20)?,
            started: number(22)?,
            memory: number(24)? * rustix::param::page_size() as u64,
        })
    }

    /// Whether it ended, and only its number is left until its parent collects it.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let text = "812 (a) b (c) S 1 812 812 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 3 0 1000 10000 50 18446744073709551615 1 1 0 0 0 0 0";
        let process = Stat::read(text).unwrap();
        assert_eq!((process.name.as_str(), process.state, process.parent), ("a) b (c", 'S', 1));
        assert_eq!((process.ticks, process.threads, process.started), (12, 3, 1000));
        assert_eq!(process.memory, 50 * rustix::param::page_size() as u64);
    }

    #[test]
    fn this_process_is_alive_and_a_number_beyond_all_is_nobodys() {
        assert!(!Stat::of(std::process::id()).unwrap().is_over());
        assert_eq!(Stat::of(u32::MAX), None);
    }
}
