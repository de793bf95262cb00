//! A middleware that verifies a JWT, by the crate that most use.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

/// What our own answers carry.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    sub: String,
    jti: String,
    client: String,
    iat: u64,
    exp: u64,
}

pub(crate) struct Keys {
    algorithm: Algorithm,
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

impl Keys {
    fn generate(algorithm: Algorithm) -> Keys {
        let random = SystemRandom::new();
        let (signing, verifying) = match algorithm {
            Algorithm::HS256 => {
                let mut secret = [0; 32];
                aws_lc_rs::rand::fill(&mut secret).unwrap();
                (EncodingKey::from_secret(&secret), DecodingKey::from_secret(&secret))
            }
            Algorithm::RS256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
                let pair = RsaKeyPair::from_pkcs8(private.as_ref()).unwrap();
                let public = DecodingKey::from_rsa_der(pair.public_key().as_ref());
                (EncodingKey::from_rsa_der(&pkcs1(private.as_ref())), public)
            }
            Algorithm::ES256 => {
                let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref()).unwrap();
                (EncodingKey::from_ec_der(private.as_ref()), DecodingKey::from_ec_der(pair.public_key().as_ref()))
            }
            Algorithm::EdDSA => {
                let private = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).unwrap();
                (EncodingKey::from_ed_der(private.as_ref()), DecodingKey::from_ed_der(pair.public_key().as_ref()))
            }
            other => panic!("{other:?} is not measured"),
        };
        Keys { algorithm, signing, verifying, validation: Validation::new(algorithm) }
    }

    fn mint(&self, number: u64) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let claims = Claims {
            sub: format!("subject-{:010}", number / 10),
            jti: format!("01a1f89c-fb80-71d6-9cfb-{number:012}"),
            client: "default".to_owned(),
            iat: now,
            exp: now + 86_400,
        };
        encode(&Header::new(self.algorithm), &claims, &self.signing).unwrap()
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        decode::<Claims>(token, &self.verifying, &self.validation).ok().map(|data| data.claims)
    }
}

/// The key inside a PKCS #8 envelope, which is its last octet string.
fn pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    let at = pkcs8.windows(4).position(|bytes| bytes[0] == 0x04 && bytes[1] == 0x82).unwrap();
    pkcs8[at + 4..].to_vec()
}

/// The best of many short rounds over a thousand tokens; the clock is read for each, by the library.
pub(crate) fn nanoseconds(algorithm: Algorithm, seconds: u64) -> f64 {
    let keys = Keys::generate(algorithm);
    let tokens: Vec<String> = (0..1_000).map(|number| keys.mint(number)).collect();
    let mut best = f64::INFINITY;
    let end = Instant::now() + Duration::from_secs(seconds);
    for round in tokens.chunks(100).cycle() {
        let begun = Instant::now();
        for token in round {
            assert!(black_box(keys.verify(black_box(token))).is_some());
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / round.len() as f64);
        if Instant::now() > end {
            return best;
        }
    }
    unreachable!("a cycle has no end")
}

pub(crate) fn router(algorithm: Algorithm) -> Router {
    let keys = Arc::new(Keys::generate(algorithm));
    Router::new()
        .route("/protected", get(crate::protected))
        .layer(from_fn_with_state(Arc::clone(&keys), verify))
        .route("/credential/{number}", get(credential).with_state(keys))
}

async fn verify(State(keys): State<Arc<Keys>>, mut request: Request, next: Next) -> Result<Response, StatusCode> {
    let value = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = value.and_then(|value| value.strip_prefix("Bearer ")).ok_or(StatusCode::UNAUTHORIZED)?;
    let claims = keys.verify(token).ok_or(StatusCode::UNAUTHORIZED)?;
    request.extensions_mut().insert(claims);
    Ok(next.run(request).await)
}

async fn credential(State(keys): State<Arc<Keys>>, Path(number): Path<u64>) -> String {
    format!("authorization: Bearer {}", keys.mint(number))
}
