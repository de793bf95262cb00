//! The steps of a command, each named when it starts and timed when it ends.

use std::fmt;
use std::time::{Duration, Instant};

use crate::Failure;

/// What has been done since the command started.
pub(crate) struct Steps {
    begun: Instant,
    done: Vec<(&'static str, Ending)>,
}

enum Ending {
    Took(Duration),
    Skipped { why: &'static str },
}

impl Steps {
    pub(crate) fn begin() -> Steps {
        Steps { begun: Instant::now(), done: Vec::new() }
    }

    /// Does one step. Its failure carries its name and is meant to end the command.
    pub(crate) fn take<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        println!("\n== {name}");
        let begun = Instant::now();
        let made = work()
            .map_err(|failure| format!("stopped at \"{name}\" after {}: {failure}", Spoken(self.begun.elapsed())))?;
        self.done.push((name, Ending::Took(begun.elapsed())));
        Ok(made)
    }

    /// Notes a step that cannot be done here and need not be.
    pub(crate) fn skip(&mut self, name: &'static str, why: &'static str) {
        println!("\n== {name}: skipped, {why}");
        self.done.push((name, Ending::Skipped { why }));
    }

    /// Prints what was done and how long all of it took.
    pub(crate) fn sum_up(self) {
        println!("\n== summary");
        for (name, ending) in &self.done {
            match ending {
                Ending::Took(time) => println!("  {name:<22} {}", Spoken(*time)),
                Ending::Skipped { why } => println!("  {name:<22} skipped, {why}"),
            }
        }
        println!("  {:<22} {}", "total", Spoken(self.begun.elapsed()));
    }
}

/// A duration as it is read aloud: `0.4 s`, `2 min 05 s`.
struct Spoken(Duration);

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds < 60 {
            write!(f, "{:.1} s", self.0.as_secs_f64())
        } else {
            write!(f, "{} min {:02} s", seconds / 60, seconds % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_names_itself() {
        let failure = Steps::begin().take("walls", || Err::<(), _>("core uses tokio".into())).unwrap_err().to_string();
        assert!(failure.starts_with("stopped at \"walls\" after 0.0 s: core uses tokio"), "{failure}");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        assert_eq!(Spoken(Duration::from_millis(440)).to_string(), "0.4 s");
        assert_eq!(Spoken(Duration::from_secs(125)).to_string(), "2 min 05 s");
    }
}
