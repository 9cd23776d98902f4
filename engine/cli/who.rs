//! Who types: the account that was logged in to, whatever it became since.

use crate::config::Environment;

/// The name of the person at this command. The audit's login identity survives `sudo` and `su` and can
/// not be set by the person; where there is none, `sudo` says it, and else the account of the process.
pub(super) fn person(environment: &Environment) -> String {
    let login = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|id| id.trim().parse::<u32>().ok());
    if let Some(name) = login.filter(|id| *id != u32::MAX).map(name_of) {
        return name;
    }
    let sudo = environment.get("SUDO_USER").filter(|name| !name.is_empty());
    sudo.map_or_else(|| name_of(rustix::process::getuid().as_raw()), str::to_owned)
}

fn name_of(id: u32) -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id.to_string()).then(|| name.to_owned())
    };
    accounts.lines().find_map(of).unwrap_or_else(|| format!("uid {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_names_and_others_their_number() {
        assert_eq!(name_of(0), "root");
        assert_eq!(name_of(u32::MAX - 7), "uid 4294967288");
    }
}
