//! recover-disk: what may go goes, in order, until the target is reached; everything else stays.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::lab::{Disk, Site, docker, lab, lab_says};
use super::systems;

/// A file of so many MiB that was last written so many days ago.
fn file(path: &Path, mib: usize, days: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, vec![b'x'; mib << 20]).unwrap();
    let touched = Command::new("touch").args(["-d", &format!("-{days} days")]).arg(path).status().unwrap();
    assert!(touched.success());
}

/// The disk with rotated logs, temporary files and a live log, filled to nine tenths, and the rules of a system for it.
fn filled(site: &mut Site) -> PathBuf {
    let disk = lab().unwrap().state.join("disk");
    lab_says(&["disk", "up"]);
    for (name, days) in [("1", 10), ("2", 20), ("3", 30), ("4", 0)] {
        file(&disk.join(format!("logs/web.log.{name}")), 4, days);
    }
    file(&disk.join("logs/web.log"), 2, 10);
    file(&disk.join("tmp/shop-1"), 4, 10);
    lab_says(&["disk", "fill", "90"]);
    site.amends(&format!(
        "[maintenance.cleanup.rotated-logs]\npath = \"{0}/logs/*.log.*\"\nkeep = \"7d\"\n[maintenance.cleanup.temporary]\npath = \"{0}/tmp/shop-*\"\nkeep = \"7d\"\n",
        disk.display()
    ));
    disk
}

/// The names of the files that are left.
fn left(disk: &Path) -> Vec<String> {
    let mut names: Vec<String> = ["logs", "tmp"]
        .iter()
        .flat_map(|directory| std::fs::read_dir(disk.join(directory)).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_oldest_rotated_logs_go_until_the_target_is_reached_and_no_further() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    let _alone = Disk::alone();
    let disk = filled(&mut site);
    let mount = format!("mount={}", disk.display());
    let words = [mount.as_str(), "target=80"];
    site.plan("recover-disk", &words).is_quiet();
    assert_eq!(left(&disk).len(), 6);
    let look = site.resumed("recover-disk", &words, "effect:remove rotated-logs");
    assert_eq!(look.code, 0, "{:#}\n{}", look.answer["checks"], look.stderr);
    look.tells(site.system.recovery, &[site.system.title, "已恢复：磁盘"]);
    assert_eq!(left(&disk), ["shop-1", "web.log", "web.log.1", "web.log.4"]);
    site.run("recover-disk", &words).is_quiet();
    assert_eq!(left(&disk).len(), 4);
}

#[test]
fn what_is_to_be_kept_what_is_young_and_the_live_log_stay_and_a_person_hears_what_is_largest() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    let _alone = Disk::alone();
    let disk = filled(&mut site);
    let mount = format!("mount={}", disk.display());
    let keep = format!("keep={}/logs/web.log.3", disk.display());
    let words = [mount.as_str(), keep.as_str(), "target=10"];
    let look = site.run("recover-disk", &words);
    assert_eq!(look.code, 1, "{}", look.stderr);
    look.tells(site.system.critical, &[site.system.title, "需要人工介入"]);
    assert_eq!(left(&disk), ["web.log", "web.log.3", "web.log.4"]);
    site.run("recover-disk", &words).is_quiet();
}

/// An image of so many MiB that has this name, or none; its id.
fn image(mib: usize, name: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    // Which bytes they are matters not, but no two images may be the same one.
    std::fs::write(directory.path().join("file"), vec![u8::from(name.is_empty()); mib << 20]).unwrap();
    let archive = directory.path().join("image.tar");
    let packed = Command::new("tar").arg("-C").arg(directory.path()).arg("-cf").arg(&archive).arg("file").status().unwrap();
    assert!(packed.success());
    let mut words = vec!["import", archive.to_str().unwrap()];
    words.extend((!name.is_empty()).then_some(name));
    docker(&words).trim().to_owned()
}

#[test]
fn images_without_a_name_go_and_those_with_one_stay() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    let mounts = "runbook(#{ title: \"t\", allow: #{ sys: [\"disks\"] } });\noutput(\"mounts\", sys::disks().map(|disk| disk.mount));";
    site.adds("mounts", mounts);
    let mounts = site.run("mounts", &[]).answer["outputs"]["mounts"].clone();
    let root = docker(&["info", "-f", "{{.DockerRootDir}}"]);
    let above = mounts.as_array().unwrap().iter().filter_map(|mount| mount.as_str()).filter(|mount| root.starts_with(mount));
    let mount = format!("mount={}", above.max_by_key(|mount| mount.len()).unwrap());
    let (named, nameless) = (image(4, "runbook-lab/kept:1"), image(8, ""));
    let there = || docker(&["images", "-aq", "--no-trunc"]).lines().map(str::to_owned).collect::<Vec<_>>();
    let words = [mount.as_str(), "target=1"];
    let plan = site.plan("recover-disk", &words);
    let prunes = |effect: &serde_json::Value| {
        effect["function"] == "docker::prune" && effect["summary"].as_str().unwrap().contains("without a name")
    };
    let mut effects = plan.answer["steps"].as_array().unwrap().iter().filter_map(|step| step["effects"].as_array()).flatten();
    assert!(effects.any(prunes), "{:#}", plan.answer["steps"]);
    assert!(there().contains(&nameless));
    let look = site.run("recover-disk", &words);
    assert!(there().contains(&named) && !there().contains(&nameless), "{}", look.stderr);
    let freed = &look.answer["outputs"]["freed"][0];
    assert_eq!(freed["what"], "images and build cache", "{:#}", look.answer["outputs"]);
    assert!(freed["files"].as_i64().unwrap() >= 1 && freed["mib"].as_i64().unwrap() >= 8, "{freed}");
    // That was not enough, of course.
    look.tells(site.system.critical, &["images and build cache", "需要人工介入"]);
    docker(&["rmi", "runbook-lab/kept:1"]);
}
