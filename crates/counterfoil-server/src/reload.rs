//! Settings read again while the server runs: [`Reloading`].

use std::io;

use metrics::counter;

use crate::config::Config;
use crate::failure::Failure;
use crate::log::Volume;
use crate::serve::Adoption;
use crate::service_manager;
use crate::setting::{Chosen, Reload};

/// Reads the settings again when the process is told to, and puts in force what can be.
///
/// All or nothing: a mistake anywhere leaves every setting as it was, and the log says which it is. What takes effect at the
/// next start alone is judged as well, so that a file that is accepted here is one to start with.
pub(crate) struct Reloading<Read> {
    read: Read,
    /// What the server was started with: what needs a restart is compared with this.
    started: Chosen,
    /// What was put in force last.
    chosen: Chosen,
    adoption: Adoption,
    volume: Volume,
}

impl<Read: Fn() -> Result<Chosen, Failure>> Reloading<Read> {
    /// `read` gives what is chosen now; `chosen` is what it gave at the start.
    pub(crate) fn new(read: Read, chosen: Chosen, adoption: Adoption, volume: Volume) -> Self {
        Reloading { read, started: chosen.clone(), chosen, adoption, volume }
    }

    /// Reads them again at each hangup, for as long as there may be one.
    pub(crate) async fn run(mut self, mut hangups: Hangups) {
        while hangups.next().await {
            service_manager::reloading();
            match self.reload().await {
                Ok(changed) => {
                    counter!("counterfoil_reloads_total", "outcome" => "adopted").increment(1);
                    tracing::info!(changed = changed.join(", "), "the settings were read again and are in force");
                }
                Err(failure) => {
                    counter!("counterfoil_reloads_total", "outcome" => "refused").increment(1);
                    tracing::error!(
                        error = failure.in_one_line(),
                        "the settings were read again and refused; those from before stay in force"
                    );
                }
            }
            service_manager::ready();
        }
    }

    /// The settings that are others than before.
    async fn reload(&mut self) -> Result<Vec<&'static str>, Failure> {
        let chosen = (self.read)()?;
        let config = Config::judge(&chosen)?;
        let ring = config.key_ring()?;
        let level = config.log.level;
        self.adoption.adopt(config, ring).await?;
        // Nothing fails from here on.
        self.volume.turn_to(level);
        for key in chosen.changed_since(&self.started, Reload::Restart) {
            tracing::warn!(setting = key, "a changed setting takes effect when the server is started again");
        }
        let changed = chosen.changed_since(&self.chosen, Reload::OnHangup);
        self.chosen = chosen;
        Ok(changed)
    }
}

/// The times the process is told to read its settings again: SIGHUP, where there is such a thing.
pub(crate) struct Hangups {
    #[cfg(unix)]
    signals: tokio::signal::unix::Signal,
}

impl Hangups {
    /// From now on a hangup does not end the process.
    pub(crate) fn hear() -> io::Result<Hangups> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};

            Ok(Hangups { signals: signal(SignalKind::hangup())? })
        }
        #[cfg(not(unix))]
        Ok(Hangups {})
    }

    /// Whether there was another one; several at once may count as one.
    async fn next(&mut self) -> bool {
        #[cfg(unix)]
        return self.signals.recv().await.is_some();
        #[cfg(not(unix))]
        false
    }
}
