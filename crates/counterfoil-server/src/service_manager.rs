//! What systemd is told of a service with `Type=notify` or `Type=notify-reload`. Nobody is told where nobody asked: without
//! `NOTIFY_SOCKET` in the environment.

#[cfg(unix)]
use sd_notify::NotifyState;

/// Requests are answered from now on, by the settings in force.
pub(crate) fn ready() {
    #[cfg(unix)]
    tell(&[NotifyState::Ready]);
}

/// The settings are read again; [`ready`] tells when that is over.
pub(crate) fn reloading() {
    #[cfg(unix)]
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager could not be told of the reload"),
    }
}

/// The end has begun; requests under way are finished.
pub(crate) fn stopping() {
    #[cfg(unix)]
    tell(&[NotifyState::Stopping]);
}

#[cfg(unix)]
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
