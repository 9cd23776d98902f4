//! renew-certificate: a new pair is made, installed and shown, or the old one stays.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::lab::{Look, Site, lab_status};
use super::systems;

/// A directory where a program puts what it makes; gone when dropped.
struct Authority {
    directory: tempfile::TempDir,
}

/// What the authority makes when it is asked.
enum Makes {
    /// A pair that holds for so many days.
    Days(u32),
    /// A certificate and the key of another.
    Mismatch,
}

impl Authority {
    /// Lets the certificate of a system come from a program of its own.
    fn of(site: &mut Site, makes: &Makes) -> Self {
        let authority = Self { directory: tempfile::tempdir().unwrap() };
        let state = PathBuf::from(lab_status()["state"].as_str().unwrap());
        let ssl = state.join(site.system.name).join("ssl");
        let days = if let Makes::Days(days) = makes { *days } else { 90 };
        let other = match makes {
            Makes::Days(_) => "",
            Makes::Mismatch => "openssl ecparam -name prime256v1 -genkey -noout -out made/privkey.pem\n",
        };
        let script = format!(
            "#!/bin/sh\nset -e\ncd {directory}\nmkdir -p made\necho made >>log\n\
             openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN={host} -keyout made/privkey.pem -out csr.pem 2>/dev/null\n\
             printf 'subjectAltName=DNS:{host},IP:127.0.0.1' >ext\n\
             openssl x509 -req -in csr.pem -CA {ca}/ca.pem -CAkey {ca}/key.pem -days {days} -extfile ext -out made/fullchain.pem 2>/dev/null\n{other}",
            directory = authority.directory.path().display(),
            host = "ai-notebook.com",
            ca = state.join("ca").display(),
        );
        let program = authority.directory.path().join("make");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        site.amends(&format!(
            "[certificates.public.renewal]\ncommand = [{:?}]\ndirectory = {:?}\nkey = {:?}\nservice = \"nginx\"\ndays = 14\n",
            program.display().to_string(),
            authority.directory.path().join("made").display().to_string(),
            ssl.join("key.pem").display().to_string(),
        ));
        authority
    }

    /// How often it was asked.
    fn asked(&self) -> usize {
        std::fs::read_to_string(self.directory.path().join("log")).map_or(0, |log| log.lines().count())
    }
}

/// The serial a server shows.
fn shown(address: &str) -> String {
    let pipe = format!("openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial");
    String::from_utf8(Command::new("sh").args(["-c", &pipe]).output().unwrap().stdout).unwrap()
}

const ADDRESS: &str = "127.0.0.1:12443";
const RENEW: &str = "mode=renew";

#[track_caller]
fn is_renewed(look: &Look, site: &Site) {
    assert_eq!(look.code, 0, "{:#}\n{}", look.answer["checks"], look.stderr);
    look.says("certificate public", "renewed: ").tells(site.system.recovery, &[site.system.title, "已更新"]);
}

#[test]
fn a_certificate_that_ends_soon_is_renewed_once_and_shown() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.breaks("cert-days", "10");
    let authority = Authority::of(&mut site, &Makes::Days(90));
    let before = shown(ADDRESS);
    let look = site.plan("renew-certificate", &[RENEW]);
    look.is_quiet();
    assert_eq!((authority.asked(), shown(ADDRESS)), (0, before.clone()));
    let look = site.run("renew-certificate", &[RENEW]);
    is_renewed(&look, &site);
    let after = shown(ADDRESS);
    assert_ne!(after, before);
    site.run("renew-certificate", &[RENEW]).is_quiet();
    assert_eq!((authority.asked(), shown(ADDRESS)), (1, after));
}

#[test]
fn a_pair_that_does_not_belong_together_is_not_installed() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.breaks("cert-days", "10");
    let _authority = Authority::of(&mut site, &Makes::Mismatch);
    let before = shown(ADDRESS);
    let look = site.run("renew-certificate", &[RENEW]);
    assert_eq!(look.code, 1, "{}", look.stderr);
    look.says("certificate public", "the key is not the one of the certificate")
        .tells(site.system.critical, &[site.system.title, "需要处理"]);
    assert_eq!(shown(ADDRESS), before);
    site.run("renew-certificate", &[RENEW]).is_quiet();
}

#[test]
fn a_run_killed_while_it_installs_goes_on() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.breaks("cert-days", "10");
    let authority = Authority::of(&mut site, &Makes::Days(90));
    let look = site.resumed("renew-certificate", &[RENEW], "effect:install public");
    is_renewed(&look, &site);
    assert_eq!(authority.asked(), 1);
}

#[test]
fn a_certificate_that_holds_is_no_news_and_one_that_ends_soon_is_told_once() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.run("renew-certificate", &[]).is_quiet();
    site.breaks("cert-days", "5");
    let look = site.run("renew-certificate", &[]);
    assert_eq!(look.code, 1, "{}", look.stderr);
    look.tells(site.system.critical, &[site.system.title, "证书 public 需要处理"]);
    site.run("renew-certificate", &[]).is_quiet();
    site.mend();
    site.run("renew-certificate", &[]).tells(site.system.recovery, &["恢复正常"]);
}
