//! What people get when something breaks: who hears, in which words, and what happens when a channel is down.

use super::lab::Site;
use super::systems;

#[test]
fn a_message_says_in_chinese_what_broke_from_what_to_what_and_what_to_do() {
    let Some(mut site) = Site::of(&systems::AI_NOTEBOOK) else { return };
    site.breaks("cert-days", "10");
    let look = site.look();
    look.tells(&["smtp"], &[]);
    let text = look.messages[0].1.replace("\r\n", "\n");
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let expected = [
        "[AI智能记事本] 警告：certificate public",
        "certificate public  正常 → 警告：10 d",
        "下一步：runbook run check-health -s ai-notebook",
    ];
    assert_eq!(lines, expected, "{text}");
}

#[test]
fn the_fallback_of_a_dead_channel_hears_of_a_fault_and_the_recovery_is_not_lost() {
    let Some(mut site) = Site::of(&systems::AI_HUB) else { return };
    site.channel("slack", "404");
    site.breaks("redis-password", "");
    let look = site.look();
    let accepted: Vec<&str> = look.messages.iter().map(|(channel, _)| *channel).collect();
    // Slack said no for good: mail hears it as a contact of the route, and as the fallback of Slack.
    assert_eq!(accepted, ["slack", "smtp", "smtp"], "{:#?}\n{}", look.messages, look.stderr);
    site.channel("slack", "ok");
    site.mend();
    site.look().tells(systems::AI_HUB.recovery, &["已恢复", "cache main"]);
}
