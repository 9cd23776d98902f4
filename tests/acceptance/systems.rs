//! The systems of the lab: what of them breaks together, and who hears of it.

use std::sync::Mutex;

/// A system of the lab.
pub(crate) struct System {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The service of the application.
    pub(crate) backend: &'static str,
    /// The service of PostgreSQL, where something looks at its health.
    pub(crate) watched_postgres: Option<&'static str>,
    /// The endpoints the application answers.
    pub(crate) endpoints: &'static [&'static str],
    /// Those that tell of its health.
    pub(crate) health: &'static [&'static str],
    /// Those that ask the database, and the cache.
    pub(crate) need_database: &'static [&'static str],
    pub(crate) need_cache: &'static [&'static str],
    pub(crate) databases: &'static [&'static str],
    /// The logs that hold the application's file.
    pub(crate) logs: &'static [&'static str],
    /// The channels of the sink its routes end in.
    pub(crate) critical: &'static [&'static str],
    pub(crate) warning: &'static [&'static str],
    pub(crate) recovery: &'static [&'static str],
    /// What 85 % of a disk are here.
    pub(crate) disk_at_85: &'static str,
    /// One test at a time; whether nothing of it is broken.
    pub(crate) whole: Mutex<bool>,
}

impl System {
    /// Whether it runs in containers, which know about health.
    pub(crate) fn in_containers(&self) -> bool {
        self.watched_postgres.is_some()
    }
}

pub(crate) static AI_HUB: System = System {
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

pub(crate) static AI_NOTEBOOK: System = System {
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

pub(crate) static EDUCATION: System = System {
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

pub(crate) static FIN_PRE_ASSIST: System = System {
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

pub(crate) static FOOTBALL: System = System {
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

pub(crate) static ALL: [&System; 5] = [&AI_HUB, &AI_NOTEBOOK, &EDUCATION, &FIN_PRE_ASSIST, &FOOTBALL];
