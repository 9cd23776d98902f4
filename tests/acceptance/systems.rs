//! The systems of the lab: what of them breaks together, and who hears of it.

use std::sync::Mutex;

/// A system of the lab.
pub(super) struct System {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// The service of the application.
    pub(super) backend: &'static str,
    /// The service of PostgreSQL, where something looks at its health.
    pub(super) watched_postgres: Option<&'static str>,
    /// The endpoints the application answers.
    pub(super) endpoints: &'static [&'static str],
    /// Those that tell of its health.
    pub(super) health: &'static [&'static str],
    /// Those that ask the database, and the cache.
    pub(super) need_database: &'static [&'static str],
    pub(super) need_cache: &'static [&'static str],
    pub(super) databases: &'static [&'static str],
    /// The logs that hold the application's file.
    pub(super) logs: &'static [&'static str],
    /// The channels of the sink its routes end in.
    pub(super) critical: &'static [&'static str],
    pub(super) warning: &'static [&'static str],
    pub(super) recovery: &'static [&'static str],
    /// What 85 % of a disk are here.
    pub(super) disk_at_85: &'static str,
    /// One test at a time; whether nothing of it is broken.
    pub(super) whole: Mutex<bool>,
}

impl System {
    /// Whether it runs in containers, which know about health.
    pub(super) fn in_containers(&self) -> bool {
        self.watched_postgres.is_some()
    }
}

pub(super) static AI_HUB: System = System {
    name: "ai-hub",
    title: "AI Hub",
    backend: "backend",
    watched_postgres: Some("postgres"),
    endpoints: &["health", "models", "public", "status"],
    health: &["health", "public"],
    need_database: &["status"],
    need_cache: &["status"],
    databases: &["admin", "main"],
    logs: &["backend"],
    critical: &["slack", "smtp"],
    warning: &["smtp"],
    recovery: &["slack", "smtp"],
    disk_at_85: "warning",
    whole: Mutex::new(false),
};

pub(super) static AI_NOTEBOOK: System = System {
    name: "ai-notebook",
    title: "AI智能记事本",
    backend: "backend",
    watched_postgres: Some("postgres"),
    endpoints: &["public"],
    health: &["public"],
    need_database: &[],
    need_cache: &[],
    databases: &["main"],
    logs: &["backend"],
    critical: &["slack", "smtp"],
    warning: &["smtp"],
    recovery: &["slack", "smtp"],
    disk_at_85: "warning",
    whole: Mutex::new(false),
};

pub(super) static EDUCATION: System = System {
    name: "education",
    title: "智能教育平台",
    backend: "education-api",
    watched_postgres: None,
    endpoints: &["health"],
    health: &["health"],
    need_database: &[],
    need_cache: &[],
    databases: &["admin", "main"],
    logs: &["all", "app"],
    critical: &["dingtalk", "sms", "smtp", "webhook"],
    warning: &["smtp", "webhook"],
    recovery: &["dingtalk", "smtp"],
    disk_at_85: "warning",
    whole: Mutex::new(false),
};

pub(super) static FIN_PRE_ASSIST: System = System {
    name: "fin-pre-assist",
    title: "金融售前方案辅助编写系统",
    backend: "backend",
    watched_postgres: Some("postgres"),
    endpoints: &["cache", "database", "health", "metrics"],
    health: &["cache", "database", "health"],
    need_database: &["database"],
    need_cache: &["cache"],
    databases: &["main"],
    logs: &[],
    critical: &["sms", "smtp"],
    warning: &["smtp"],
    recovery: &["sms", "smtp"],
    // Its manual calls up to 85 % normal.
    disk_at_85: "ok",
    whole: Mutex::new(false),
};

pub(super) static FOOTBALL: System = System {
    name: "football",
    title: "足球预测系统",
    backend: "app",
    watched_postgres: Some("postgres"),
    endpoints: &["health", "metrics", "public"],
    health: &["health", "public"],
    need_database: &[],
    need_cache: &[],
    databases: &["admin", "main"],
    logs: &["app"],
    critical: &["dingtalk", "slack", "smtp"],
    warning: &["smtp"],
    recovery: &["dingtalk", "smtp"],
    disk_at_85: "warning",
    whole: Mutex::new(false),
};

pub(super) static ALL: [&System; 5] = [&AI_HUB, &AI_NOTEBOOK, &EDUCATION, &FIN_PRE_ASSIST, &FOOTBALL];
