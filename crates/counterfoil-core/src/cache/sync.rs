//! What threads share, from the standard library; from loom where the model of `cargo xtask model` is built, which runs
//! every interleaving that the memory model allows.

#[cfg(not(counterfoil_model))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(counterfoil_model))]
pub(super) use std::sync::{Mutex, OnceLock};

#[cfg(counterfoil_model)]
pub(super) use self::model::OnceLock;
#[cfg(counterfoil_model)]
pub(super) use loom::sync::Mutex;
#[cfg(counterfoil_model)]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

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
    use std::sync::Arc;

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
