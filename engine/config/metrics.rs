//! The metrics that thresholds are about: one name and one unit for each, in all systems.

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name, as in `[thresholds.NAME]`.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What is measured.
    pub help: &'static str,
}

const fn metric(name: &'static str, unit: &'static str, help: &'static str) -> Metric {
    Metric { name, unit, help }
}

/// Every metric, by subject.
pub const METRICS: &[Metric] = &[
    // The machine.
    metric("cpu", "%", "time the processors are busy"),
    metric("process_cpu", "%", "time one process keeps a processor busy"),
    metric("load_per_core", "", "load average of 5 minutes per processor"),
    metric("memory", "%", "memory that is not available"),
    metric("process_memory", "%", "memory of one process"),
    metric("swap", "%", "swap in use"),
    metric("disk", "%", "a filesystem in use"),
    metric("disk_act", "%", "a filesystem in use, from which space is made"),
    metric("inodes", "%", "inodes of a filesystem in use"),
    metric("bandwidth", "%", "capacity of a network interface in use"),
    metric("clock_offset", "s", "difference to the reference clock"),
    metric("failed_units", "", "systemd units that failed"),
    metric("resource_use", "%", "mean use of what is paid for"),
    // The network.
    metric("latency", "ms", "round trip"),
    metric("packet_loss", "%", "packets lost"),
    // The application.
    metric("availability", "%", "time the system was up, over a month"),
    metric("response_time", "ms", "one probe of an endpoint"),
    metric("response_p95", "ms", "95 % of requests are faster"),
    metric("response_p99", "ms", "99 % of requests are faster"),
    metric("page_load", "ms", "a page, complete"),
    metric("error_rate", "%", "answers 5xx of all answers"),
    metric("success_rate", "%", "answers below 500 of all answers"),
    metric("requests", "/min", "requests"),
    metric("active_users", "", "users seen within the day"),
    metric("token_usage", "/min", "tokens used"),
    metric("prediction_accuracy", "", "share of right predictions"),
    metric("tenant_quota", "%", "quota of a tenant in use"),
    metric("service_down", "", "services that are not up"),
    metric("restarts", "/h", "restarts of a container"),
    // Stores.
    metric("db_connections", "", "client connections"),
    metric("db_connections_used", "%", "client connections of those accepted"),
    metric("db_pool", "%", "connections of the application's pool in use"),
    metric("db_idle_age", "s", "age of an idle session that may be ended"),
    metric("db_query_age", "s", "age of a statement that may be cancelled"),
    metric("db_cache_hit_rate", "%", "blocks found in PostgreSQL's memory"),
    metric("db_bloat", "%", "dead rows of a table"),
    metric("slow_query", "ms", "mean time of a statement"),
    metric("slow_query_log", "ms", "time from which a statement is logged"),
    metric("slow_queries", "/min", "statements slower than `slow_query_log`"),
    metric("cache_hit_rate", "%", "lookups found in the cache"),
    metric("cache_memory", "%", "memory of the cache in use"),
    metric("cache_size", "MiB", "memory of the cache in use"),
    // Logs and security.
    metric("log_errors", "/h", "error lines of the application"),
    metric("log_errors_day", "/d", "error lines of the application"),
    metric("requests_per_address", "/h", "requests of one client address"),
    metric("failed_logins", "/d", "refused logins"),
    metric("port_scans", "/d", "refused connections that look like a scan"),
    metric("security_events", "/month", "security incidents"),
    metric("certificate_days", "d", "days a certificate is still valid"),
    // Upkeep.
    metric("backup_age", "h", "age of the newest good set"),
    metric("file_age", "d", "age of a file or signature list"),
    metric("capacity_growth", "%", "growth over the horizon from which more is planned"),
    metric("time_to_limit", "h", "time until a limit is reached, by the trend"),
];
