//! What is measured, and the page that shows it to Prometheus: [`Exposition`].

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use counterfoil::{Clock, ProblemKind, SystemClock};
use http::header;
use metrics::{Label, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::failure::Failure;

/// Upper ends of the histograms, in seconds: from a look-up to the longest that a request may take.
const BUCKETS: [f64; 14] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Samples are kept until they are sorted into buckets, which is done this often where nobody asks.
const UPKEEP: Duration = Duration::from_secs(5);

/// One thing that is measured.
struct Metric {
    name: &'static str,
    kind: Kind,
    /// The one label that it begins at 0 with, for each of its values, so that a rate can be told from its first event on.
    /// What has other labels begins when it happens.
    starts: Starts,
    about: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    /// In seconds.
    Histogram,
}

enum Starts {
    AtZero,
    For(&'static str, &'static [&'static str]),
    ForEachProblem,
    WhenItHappens,
}

/// Everything, as `docs/metrics.md` has it.
const METRICS: &[Metric] = &[
    Metric {
        name: "counterfoil_http_requests_total",
        kind: Kind::Counter,
        starts: Starts::WhenItHappens,
        about: "Requests answered, by template of the route, never by path",
    },
    Metric {
        name: "counterfoil_http_request_duration_seconds",
        kind: Kind::Histogram,
        starts: Starts::WhenItHappens,
        about: "Time from the head of a request to the head of its answer",
    },
    Metric {
        name: "counterfoil_problems_total",
        kind: Kind::Counter,
        starts: Starts::ForEachProblem,
        about: "Requests refused or not answered, by the type of their problem document",
    },
    Metric {
        name: "counterfoil_token_checks_total",
        kind: Kind::Counter,
        starts: Starts::For(
            "outcome",
            &["accepted", "unknown", "expired", "revoked", "inactive", "throttled", "refused", "failed"],
        ),
        about: "Tokens judged for a request",
    },
    Metric {
        name: "counterfoil_logins_total",
        kind: Kind::Counter,
        starts: Starts::For(
            "outcome",
            &[
                "succeeded",
                "unknown_user",
                "wrong_password",
                "inactive",
                "unconfirmed",
                "overtaken",
                "too_many_attempts",
                "refused",
                "unanswered",
            ],
        ),
        about: "Logins by how they ended",
    },
    Metric {
        name: "counterfoil_tokens_issued_total",
        kind: Kind::Counter,
        starts: Starts::For("kind", &["login", "key"]),
        about: "Tokens made",
    },
    Metric {
        name: "counterfoil_tokens_revoked_total",
        kind: Kind::Counter,
        starts: Starts::For("by", &["itself", "owner", "operator", "later_login", "reuse", "service"]),
        about: "Tokens ended one by one",
    },
    Metric {
        name: "counterfoil_endings_total",
        kind: Kind::Counter,
        starts: Starts::For("scope", &["subject", "client", "everybody"]),
        about: "Times that all tokens of somebody were ended at once",
    },
    Metric {
        name: "counterfoil_shared_limits_answers_total",
        kind: Kind::Counter,
        starts: Starts::For("outcome", &["answered", "failed", "late", "nonsense", "not_asked"]),
        about: "Questions to the limits that all nodes share",
    },
    Metric {
        name: "counterfoil_shared_limits_duration_seconds",
        kind: Kind::Histogram,
        starts: Starts::WhenItHappens,
        about: "Time until the limits that all nodes share answered, or did not",
    },
    Metric {
        name: "counterfoil_shared_limits_healthy",
        kind: Kind::Gauge,
        starts: Starts::WhenItHappens,
        about: "1 while all nodes count together, 0 while this one counts for itself",
    },
    Metric {
        name: "counterfoil_tokens_renewed_total",
        kind: Kind::Counter,
        starts: Starts::AtZero,
        about: "Tokens whose expiry was moved on by asking",
    },
    Metric {
        name: "counterfoil_tokens_rotated_total",
        kind: Kind::Counter,
        starts: Starts::AtZero,
        about: "Tokens that got a new secret",
    },
    Metric {
        name: "counterfoil_reuses_detected_total",
        kind: Kind::Counter,
        starts: Starts::AtZero,
        about: "Secrets that came back after their token had given them up",
    },
    Metric {
        name: "counterfoil_tokens_purged_total",
        kind: Kind::Counter,
        starts: Starts::AtZero,
        about: "Rows removed after the retention",
    },
    Metric {
        name: "counterfoil_hashing_waiting",
        kind: Kind::Gauge,
        starts: Starts::AtZero,
        about: "Passwords that wait to be hashed",
    },
    Metric {
        name: "counterfoil_hashing_duration_seconds",
        kind: Kind::Histogram,
        starts: Starts::AtZero,
        about: "Time to check or hash one password, without the wait",
    },
    Metric {
        name: "counterfoil_hashing_refused_total",
        kind: Kind::Counter,
        starts: Starts::AtZero,
        about: "Passwords turned away because the queue was full",
    },
    Metric {
        name: "counterfoil_store_errors_total",
        kind: Kind::Counter,
        starts: Starts::For("work", &["request", "flush", "purge", "follow", "mail", "count_mails", "notices"]),
        about: "Failures of the store",
    },
    Metric {
        name: "counterfoil_write_ahead_bytes",
        kind: Kind::Gauge,
        starts: Starts::AtZero,
        about: "Size of the database's write-ahead log, up to half a second ago",
    },
    Metric {
        name: "counterfoil_background_healthy",
        kind: Kind::Gauge,
        starts: Starts::WhenItHappens,
        about: "1 while the last run of this work succeeded, 0 while it did not",
    },
    Metric {
        name: "counterfoil_background_runs_total",
        kind: Kind::Counter,
        starts: Starts::WhenItHappens,
        about: "Runs of the work in the background",
    },
    Metric {
        name: "counterfoil_cached_tokens",
        kind: Kind::Gauge,
        starts: Starts::AtZero,
        about: "Tokens that are answered from memory, up to a quarter of a second ago",
    },
    Metric {
        name: "counterfoil_cache_answers",
        kind: Kind::Gauge,
        starts: Starts::AtZero,
        about: "1 while tokens are answered from memory, 0 while the store is asked for each of them",
    },
    Metric {
        name: "counterfoil_log_applied",
        kind: Kind::Gauge,
        starts: Starts::AtZero,
        about: "Number of the last change of the store that this process knows",
    },
    Metric {
        name: "counterfoil_cache_misses_total",
        kind: Kind::Counter,
        starts: Starts::AtZero,
        about: "Tokens that the store was asked for",
    },
    Metric {
        name: "counterfoil_cache_emptied_total",
        kind: Kind::Counter,
        starts: Starts::For("reason", &["other-store", "rewound", "rewritten", "gap"]),
        about: "Times that all that was known of tokens was forgotten",
    },
    Metric {
        name: "counterfoil_marks_lost_total",
        kind: Kind::Counter,
        starts: Starts::AtZero,
        about: "Sightings and renewals given up because the store could not take them in time",
    },
    Metric {
        name: "counterfoil_limits_hit_total",
        kind: Kind::Counter,
        starts: Starts::For(
            "limit",
            &["failed_logins", "misses", "login", "api", "introspection", "route", "mails", "mailbox"],
        ),
        about: "Requests refused by a limit that is not a client's own",
    },
    Metric {
        name: "counterfoil_mails_total",
        kind: Kind::Counter,
        starts: Starts::For("outcome", &["sent", "postponed", "given_up", "pointless", "failed"]),
        about: "Mails taken from the queue to be sent, by what became of them",
    },
    Metric {
        name: "counterfoil_mails_lost_total",
        kind: Kind::Counter,
        starts: Starts::For("why", &["expired", "refused", "queue_full"]),
        about: "Mails that were not and will not be sent",
    },
    Metric {
        name: "counterfoil_mails_waiting",
        kind: Kind::Gauge,
        starts: Starts::AtZero,
        about: "Mails in the queue, up to five seconds ago",
    },
    Metric {
        name: "counterfoil_audit_lost_total",
        kind: Kind::Counter,
        starts: Starts::AtZero,
        about: "Audit entries given up because the store could not take them in time",
    },
    Metric {
        name: "counterfoil_connections_open",
        kind: Kind::Gauge,
        starts: Starts::For("listener", &["main", "metrics"]),
        about: "Connections that are open",
    },
    Metric {
        name: "counterfoil_connections_accepted_total",
        kind: Kind::Counter,
        starts: Starts::For("listener", &["main", "metrics"]),
        about: "Connections that were let in",
    },
    Metric {
        name: "counterfoil_reloads_total",
        kind: Kind::Counter,
        starts: Starts::For("outcome", &["adopted", "refused"]),
        about: "Times that the settings were read again",
    },
    Metric {
        name: "counterfoil_start_time_seconds",
        kind: Kind::Gauge,
        starts: Starts::WhenItHappens,
        about: "When the process started, in seconds since 1970",
    },
    Metric {
        name: "counterfoil_build_info",
        kind: Kind::Gauge,
        starts: Starts::WhenItHappens,
        about: "Always 1; the label is the version",
    },
];

impl Metric {
    fn begin(&self) {
        let (name, about) = (self.name, self.about);
        match self.kind {
            Kind::Counter => describe_counter!(name, about),
            Kind::Gauge => describe_gauge!(name, about),
            Kind::Histogram => describe_histogram!(name, about),
        }
        match self.starts {
            Starts::AtZero => self.begin_with(Vec::new()),
            Starts::For(label, values) => {
                values.iter().for_each(|value| self.begin_with(vec![Label::new(label, *value)]));
            }
            Starts::ForEachProblem => {
                ProblemKind::ALL.iter().for_each(|kind| self.begin_with(vec![Label::new("type", kind.slug())]));
            }
            Starts::WhenItHappens => {}
        }
    }

    fn begin_with(&self, labels: Vec<Label>) {
        // To ask for it is enough for it to be there.
        match self.kind {
            Kind::Counter => drop(counter!(self.name, labels)),
            Kind::Gauge => drop(gauge!(self.name, labels)),
            Kind::Histogram => drop(histogram!(self.name, labels)),
        }
    }
}

/// The recorder of this process and its page.
#[derive(Debug, Clone)]
pub(crate) struct Exposition(PrometheusHandle);

impl Exposition {
    /// Measures from now on; once in a process, and before anything that is to be measured.
    pub(crate) fn begin() -> Result<Exposition, Failure> {
        let cannot = |error| Failure::caused_by("nothing can be measured", &error);
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).map_err(cannot)?;
        let handle = builder.install_recorder().map_err(cannot)?;
        METRICS.iter().for_each(Metric::begin);
        gauge!("counterfoil_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        // Milliseconds since 1970 are far below 2⁵³.
        gauge!("counterfoil_start_time_seconds").set(SystemClock.now().wall.millis() as f64 / 1_000.0);
        Ok(Exposition(handle))
    }

    /// `GET /metrics` and nothing else.
    pub(crate) fn router(&self) -> Router {
        let handle = self.0.clone();
        let page = move || {
            let text = handle.render();
            async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
        };
        Router::new().route("/metrics", get(page))
    }

    /// Keeps what is measured small where nobody asks for it; never ends.
    pub(crate) async fn keep_small(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }
}
