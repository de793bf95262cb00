//! Events that go to more than one place: [`EventSinks`].

use std::sync::Arc;

use counterfoil_core::event::{EventSink, Occurrence};

/// Hands each occurrence to several sinks, one after another, in the order given.
#[derive(Debug, Clone, Default)]
pub struct EventSinks(Vec<Arc<dyn EventSink>>);

impl EventSinks {
    /// None yet, which is as good as [`Silent`](counterfoil_core::event::Silent).
    pub fn new() -> EventSinks {
        EventSinks::default()
    }

    /// One more.
    #[must_use]
    pub fn with(self, sink: impl EventSink + 'static) -> EventSinks {
        self.and(Arc::new(sink))
    }

    /// One more that is shared with others.
    #[must_use]
    pub fn and(mut self, sink: Arc<dyn EventSink>) -> EventSinks {
        self.0.push(sink);
        self
    }
}

impl EventSink for EventSinks {
    fn publish(&self, occurrence: &Occurrence) {
        for sink in &self.0 {
            sink.publish(occurrence);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use counterfoil_core::Actor;
    use counterfoil_core::event::Event;
    use counterfoil_core::{Source, Timestamp};

    use super::*;

    #[derive(Debug, Clone)]
    struct Heard(&'static str, Arc<Mutex<Vec<String>>>);

    impl EventSink for Heard {
        fn publish(&self, occurrence: &Occurrence) {
            self.1.lock().expect("list").push(format!("{} {}", self.0, occurrence.event.name()));
        }
    }

    #[test]
    fn every_sink_hears_everything_in_order() {
        let list = Arc::default();
        let sinks = EventSinks::new().with(Heard("one", Arc::clone(&list))).with(Heard("two", Arc::clone(&list)));
        for event in [Event::MarksLost(1), Event::AccountCreated("s-1".parse().expect("subject"))] {
            sinks.publish(&Occurrence { at: Timestamp::MIN, actor: Actor::Operator, source: Source::default(), event });
        }
        let heard = list.lock().expect("list").clone();
        assert_eq!(heard, ["one marks_lost", "two marks_lost", "one account_created", "two account_created"]);
    }
}
