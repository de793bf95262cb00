//! What threads share, from the standard library; from loom where the model of `cargo xtask model` is built, which runs
//! every interleaving that the memory model allows.

#[cfg(not(counterfoil_model))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(counterfoil_model))]
pub(super) use std::sync::{Mutex, OnceLock};

#[cfg(counterfoil_model)]
pub(super) use self::model::AtomicU64;
#[cfg(counterfoil_model)]
pub(super) use self::model::OnceLock;
#[cfg(all(test, counterfoil_model))]
pub(super) use self::model::{Loads, with_loads};
#[cfg(counterfoil_model)]
pub(super) use loom::sync::Mutex;
#[cfg(counterfoil_model)]
pub(super) use loom::sync::atomic::{AtomicBool, Ordering, fence};

/// `count` words of zero. The memory is the system's until it is first written to.
#[cfg(not(counterfoil_model))]
pub(super) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    bytemuck::zeroed_slice_box(count)
}

#[cfg(counterfoil_model)]
pub(super) fn zeroed_words(count: usize) -> Box<[AtomicU64]> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

/// A place for a shared record that readers take without a lock that writers hold.
#[cfg(not(counterfoil_model))]
pub(super) type Place<T> = arc_swap::ArcSwapOption<T>;
#[cfg(counterfoil_model)]
pub(super) use self::model::Place;

#[cfg(counterfoil_model)]
mod model {
    use std::cell::Cell;
    use std::sync::Arc;

    use loom::sync::atomic::Ordering;

    /// What a model does when a word is read.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(in super::super) enum Loads {
        /// Any value that the memory model allows. loom then looks for other orders only at the last access to a word, and
        /// passes over those where a writer reads it before writing.
        Weak,
        /// The newest value, as an exchange with itself, and writing is one too: every order is looked for.
        Newest,
    }

    std::thread_local! {
        static LOADS: Cell<Loads> = const { Cell::new(Loads::Weak) };
    }

    /// loom runs all threads of a model on the one that called.
    pub(in super::super) fn with_loads<T>(loads: Loads, model: impl FnOnce() -> T) -> T {
        LOADS.set(loads);
        model()
    }

    #[derive(Debug)]
    pub(in super::super) struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub(in super::super) fn new(value: u64) -> AtomicU64 {
            AtomicU64(loom::sync::atomic::AtomicU64::new(value))
        }

        pub(in super::super) fn load(&self, order: Ordering) -> u64 {
            match LOADS.get() {
                Loads::Weak => self.0.load(order),
                Loads::Newest => self.0.fetch_add(0, order),
            }
        }

        pub(in super::super) fn store(&self, value: u64, order: Ordering) {
            match LOADS.get() {
                Loads::Weak => self.0.store(value, order),
                Loads::Newest => {
                    self.0.swap(value, order);
                }
            }
        }

        pub(in super::super) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_add(value, order)
        }

        pub(in super::super) fn compare_exchange(
            &self,
            current: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.0.compare_exchange(current, new, success, failure)
        }
    }

    /// Stands in for `ArcSwapOption`, whose own insides are not what is modelled.
    #[derive(Debug)]
    pub(in super::super) struct Place<T>(loom::sync::RwLock<Option<Arc<T>>>);

    impl<T> Default for Place<T> {
        fn default() -> Self {
            Place(loom::sync::RwLock::new(None))
        }
    }

    impl<T> Place<T> {
        pub(in super::super) fn load_full(&self) -> Option<Arc<T>> {
            self.0.read().unwrap().clone()
        }

        pub(in super::super) fn load(&self) -> Option<Arc<T>> {
            self.load_full()
        }

        pub(in super::super) fn store(&self, value: Option<Arc<T>>) {
            *self.0.write().unwrap() = value;
        }
    }

    /// Set once, before the threads of a model begin.
    pub(in super::super) use std::sync::OnceLock;
}
