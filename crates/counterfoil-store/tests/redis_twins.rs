//! One random history told to two stores: Redis and the reference in memory give the same answers.
#![cfg(feature = "redis")]

mod cellar;
mod history;

use counterfoil_core::conformance::wait;
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::{CheckKey, ClientId, TokenStore};

#[test]
fn s7_redis_answers_as_the_reference_does_whatever_happened_before() {
    for seed in 0..12 {
        let database = counterfoil_lab::redis::database();
        let redis = cellar::connect(database.url());
        let entropy = PredictableEntropy::from_seed(seed);
        let key = CheckKey::generate(&entropy).expect("entropy");
        let default = history::default_client(ClientId::generate(history::NOW, &entropy).expect("entropy"));
        wait(redis.open(&key, &default));
        history::tell(seed, 150, &redis, None, |memory| drop(wait(memory.open(&key, &default))));
    }
}
