//! The events as counters: [`MetricEvents`].

use counterfoil_core::event::{Event, EventSink, Limit, LoginFailure, MailLoss, Occurrence, RevokedBy, Scope};
use counterfoil_core::throttle::RouteClass;
use metrics::counter;

/// Counts events for the recorder of the crate [`metrics`] that the program has installed; without one it costs next to
/// nothing. Names and labels are in `docs/metrics.md`; none of them says whom it was about.
#[derive(Debug, Clone, Copy, Default)]
pub struct MetricEvents;

impl EventSink for MetricEvents {
    fn publish(&self, occurrence: &Occurrence) {
        match &occurrence.event {
            Event::LoggedIn(_) => logins("succeeded"),
            Event::LoginFailed { why, .. } => logins(failure(why)),
            Event::TokenIssued(token) => {
                counter!("counterfoil_tokens_issued_total", "kind" => token.kind.as_str()).increment(1);
            }
            Event::TokenRenewed(_) => counter!("counterfoil_tokens_renewed_total").increment(1),
            Event::TokenRotated(_) => counter!("counterfoil_tokens_rotated_total").increment(1),
            Event::LoggedOut(_) => revoked("itself"),
            Event::TokenRevoked(_, by) => revoked(match by {
                RevokedBy::Owner => "owner",
                RevokedBy::Operator => "operator",
                RevokedBy::LaterLogin => "later_login",
                RevokedBy::Reuse => "reuse",
                RevokedBy::Service => "service",
            }),
            Event::RevokedMatching { count, .. } => {
                counter!("counterfoil_tokens_revoked_total", "by" => "operator").increment(*count);
            }
            Event::LimitHit(limit) => counter!("counterfoil_limits_hit_total", "limit" => limited(*limit)).increment(1),
            Event::AuditLost(lost) => counter!("counterfoil_audit_lost_total").increment(*lost),
            Event::Ended { scope, .. } => {
                let scope = match scope {
                    Scope::Subject(_) => "subject",
                    Scope::Client(_) => "client",
                    Scope::Everybody => "everybody",
                };
                counter!("counterfoil_endings_total", "scope" => scope).increment(1);
            }
            Event::ReuseDetected(_) => counter!("counterfoil_reuses_detected_total").increment(1),
            Event::MailLost { why, .. } => {
                let why = match why {
                    MailLoss::Expired => "expired",
                    MailLoss::Refused => "refused",
                    MailLoss::QueueFull => "queue_full",
                };
                counter!("counterfoil_mails_lost_total", "why" => why).increment(1);
            }
            Event::MarksLost(lost) => counter!("counterfoil_marks_lost_total").increment(*lost),
            // Counted where requests are answered, or too rare to be watched.
            Event::LoginStarted { .. }
            | Event::SecretRepeated(_)
            | Event::TokenExpired(_)
            | Event::Refused(..)
            | Event::TokenRenamed(_)
            | Event::AccountCreated(_)
            | Event::Imported { .. }
            | Event::AccountChanged(_)
            | Event::AccountDisabled(_)
            | Event::AccountEnabled(_)
            | Event::AccountUnlocked(_)
            | Event::AccountExported(_)
            | Event::AccountDeleted(_)
            | Event::PasswordChanged(_)
            | Event::RegistrationAsked
            | Event::Registered(_)
            | Event::ConfirmationAsked(_)
            | Event::EmailConfirmed(_)
            | Event::EmailChangeAsked(_)
            | Event::EmailChanged(_)
            | Event::EmailChangeUndone(_)
            | Event::ResetAsked(_)
            | Event::PasswordReset(_)
            | Event::PasswordRefused(_)
            | Event::RoleChanged(..)
            | Event::RotationLocked(_)
            | Event::RotationUnlocked(_)
            | Event::SecretsResealed(_)
            | Event::ClientCreated(_)
            | Event::ClientChanged(_)
            | Event::ClientDeleted(_) => {}
        }
    }
}

fn logins(outcome: &'static str) {
    counter!("counterfoil_logins_total", "outcome" => outcome).increment(1);
}

fn revoked(by: &'static str) {
    counter!("counterfoil_tokens_revoked_total", "by" => by).increment(1);
}

const fn limited(limit: Limit) -> &'static str {
    match limit {
        Limit::FailedLogins => "failed_logins",
        Limit::Misses => "misses",
        Limit::Requests(RouteClass::Login) => "login",
        Limit::Requests(RouteClass::Api) => "api",
        Limit::Requests(RouteClass::Introspection) => "introspection",
        Limit::Route => "route",
        Limit::Mails => "mails",
        Limit::MailsToAddress => "mailbox",
    }
}

fn failure(why: &LoginFailure) -> &'static str {
    match why {
        LoginFailure::UnknownUser => "unknown_user",
        LoginFailure::WrongPassword => "wrong_password",
        LoginFailure::Inactive => "inactive",
        LoginFailure::Unconfirmed => "unconfirmed",
        LoginFailure::Overtaken => "overtaken",
        LoginFailure::TooManyAttempts => "too_many_attempts",
        LoginFailure::Unanswered => "unanswered",
        LoginFailure::Refused(_) => "refused",
    }
}
