//! What becomes of a body that nobody read to its end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

/// How much of a refused body is still read.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How long it is still read.
const MOST_TIME: Duration = Duration::from_secs(10);

/// A body whose rest is read and thrown away when it is dropped early.
///
/// Closing a connection with unread data in it makes the system reset it, and the reset can overtake the answer: the client
/// would see a broken connection instead of the 413 (RFC 9112 §9.6). So the rest is read, up to [`MOST_BYTES`], while the
/// answer is on its way. A client that waits for `100 Continue` has sent nothing yet and is not asked to.
pub(crate) struct Drained {
    body: Option<Body>,
    /// Nothing is to be drained before somebody has read from it.
    waits_for_continue: bool,
}

impl Drained {
    pub(crate) fn new(body: Body, waits_for_continue: bool) -> Drained {
        Drained { body: Some(body), waits_for_continue }
    }
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits_for_continue = false;
        let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream() && !self.waits_for_continue) else {
            return;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // The handle is not needed: the task ends by itself, at the latest after MOST_TIME.
            drop(runtime.spawn(tokio::time::timeout(MOST_TIME, drain(body))));
        }
    }
}

async fn drain(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MOST_BYTES {
            return;
        }
    }
}
