//! Who says that there is something new: [`listen`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;

use super::changes::CHANNEL;
use super::session::Session;
use super::settings::Settings;

/// The pause before another attempt to listen. The log is asked four times a second without us.
const PAUSE: Duration = Duration::from_millis(500);

/// How often a connection on which nothing is said is asked whether it is still there. What lies between may have forgotten it
/// without a word to either side.
const STILL_THERE: Duration = Duration::from_secs(15);

/// How long it has for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Hears of changes, on a connection of its own, and says so to whoever waits for `news`; for ever. What was said while nobody
/// listened is made up for by saying that there may be something.
pub(super) async fn listen(settings: Arc<Settings>, news: Arc<Notify>) {
    loop {
        let told = Arc::clone(&news);
        // Goes with the connection, which so tells of its end.
        let (connected, mut cut_off) = oneshot::channel::<()>();
        let hears = move |message: &AsyncMessage| {
            let _there = &connected;
            if let AsyncMessage::Notification(_) = message {
                told.notify_one();
            }
        };
        if let Ok(session) = Session::connect(&settings, Some(Arc::new(hears))).await
            && is_answered(&session, &format!("LISTEN {CHANNEL}")).await
        {
            news.notify_one();
            while is_answered(&session, "").await && timeout(STILL_THERE, &mut cut_off).await.is_err() {}
            news.notify_one();
        }
        sleep(PAUSE).await;
    }
}

async fn is_answered(session: &Session, sql: &str) -> bool {
    timeout(PATIENCE, session.run(sql)).await.is_ok_and(|answer| answer.is_ok())
}
