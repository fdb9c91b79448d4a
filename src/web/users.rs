//! Users and the bcrypt hashes of their passwords. A hash is slow to verify on purpose, so each pair is verified once,
//! off the event loop, and one at a time.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Semaphore;

/// Most passwords that wait to be verified, and most of one address: some seconds' work.
const MOST_WAITING: usize = 64;
const MOST_OF_ONE: usize = 8;
/// Most pairs whose results are kept.
const MOST_VERIFIED: usize = 100;

/// The result of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// User and password are right, or no users are configured.
    Welcome,
    /// User or password is wrong.
    Unknown,
    /// Unknown so far, and too many wait to be verified.
    Busy,
}

impl Authentication {
    fn of(is_right: bool) -> Self {
        if is_right { Self::Welcome } else { Self::Unknown }
    }
}

/// Names and hashes.
#[derive(Default)]
pub(super) struct Users(HashMap<String, String>);

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Results of verified pairs of user and password. The pairs themselves are not kept, only their digest under a key of this
/// process.
pub(super) struct Verified {
    key: hmac::Key,
    pairs: Mutex<HashMap<Vec<u8>, bool>>,
    /// Number of pairs that wait to be verified, by address.
    waiting: Mutex<HashMap<Option<IpAddr>, usize>>,
    /// One at a time: each takes a processor for as long as the hash costs.
    turn: Semaphore,
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
    }
}

impl Verified {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        // Without the kernel's random numbers the key is predictable, but of no use to anyone who cannot read this memory anyway.
        let _ = SystemRandom::new().fill(&mut key);
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            pairs: Mutex::default(),
            waiting: Mutex::default(),
            turn: Semaphore::new(1),
        }
    }

    /// The digest of a pair. Each part begins with its length, so that different pairs have different inputs.
    fn pair(&self, parts: [&[u8]; 3]) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
        context.sign().as_ref().to_vec()
    }

    fn known(&self, pair: &[u8]) -> Option<bool> {
        self.pairs.lock().unwrap_or_else(PoisonError::into_inner).get(pair).copied()
    }

    fn remember(&self, pair: Vec<u8>, is_right: bool) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= MOST_VERIFIED {
            // Remove wrong pairs first, or somebody who guesses makes everybody else wait.
            pairs.retain(|_, is_right| *is_right);
        }
        if pairs.len() >= MOST_VERIFIED {
            pairs.clear();
        }
        pairs.insert(pair, is_right);
    }
}

/// Returns why a text is no hash, if it is none.
pub(super) fn check(hash: &str) -> Result<(), String> {
    // A hash that cannot be parsed is refused before anything is computed.
    let parts = hash.parse::<bcrypt::HashParts>().map_err(|error| error.to_string())?;
    if (4..=31).contains(&parts.get_cost()) {
        Ok(())
    } else {
        Err(format!("its cost is {}, and costs are 4 to 31", parts.get_cost()))
    }
}

impl Users {
    /// Makes these users; their hashes were checked.
    pub(super) fn new(users: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(users.into_iter().collect())
    }

    /// Whether there are no users, so that no password is required.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) async fn authenticate(
        &self,
        verified: &Arc<Verified>,
        authorization: Option<&[u8]>,
        peer: Option<IpAddr>,
    ) -> Authentication {
        if self.0.is_empty() {
            return Authentication::Welcome;
        }
        let Some((user, password)) = authorization.and_then(credentials) else {
            return Authentication::Unknown;
        };
        let own = self.0.get(&user);
        let pair = verified.pair([user.as_bytes(), own.map_or(&[], |hash| hash.as_bytes()), &password]);
        if let Some(is_right) = verified.known(&pair) {
            return Authentication::of(is_right);
        }
        let is_user = own.is_some();
        // The time of the answer must not show whether the user exists, so the password of an unknown user is compared as well,
        // with another user's hash.
        let Some(hash) = own.or_else(|| self.0.values().next()).cloned() else {
            return Authentication::Unknown;
        };
        let Some(pending) = PendingVerification::take(verified, peer.map(network)) else {
            return Authentication::Busy;
        };
        let verified = verified.clone();
        // A task of its own: a client that hangs up must neither stop it, which would let the next begin beside it, nor keep its
        // result from being stored.
        let work = tokio::spawn(async move {
            // Never closed.
            let turn = verified.turn.acquire().await;
            if let Some(is_right) = verified.known(&pair) {
                return is_right;
            }
            let compare =
                tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false));
            // The runtime logs a panic in it.
            let is_right = compare.await.unwrap_or(false) && is_user;
            verified.remember(pair, is_right);
            drop((turn, pending));
            is_right
        });
        Authentication::of(work.await.unwrap_or(false))
    }
}

/// The network of an address, all of which one host may have.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

/// A password that waits to be verified, until this is dropped.
struct PendingVerification {
    verified: Arc<Verified>,
    peer: Option<IpAddr>,
}

impl PendingVerification {
    /// `None` if too many wait, or too many of one address, which then does not keep all others waiting.
    fn take(verified: &Arc<Verified>, peer: Option<IpAddr>) -> Option<Self> {
        let mut waiting = verified.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = waiting.values().sum();
        let own = waiting.get(&peer).copied().unwrap_or_default();
        if all >= MOST_WAITING || own >= MOST_OF_ONE {
            return None;
        }
        waiting.insert(peer, own + 1);
        Some(Self { verified: verified.clone(), peer })
    }
}

impl Drop for PendingVerification {
    fn drop(&mut self) {
        let mut waiting = self.verified.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = waiting.get_mut(&self.peer) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                waiting.remove(&self.peer);
            }
        }
    }
}

/// User and password of a header for Basic authentication (RFC 7617).
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let text = std::str::from_utf8(header).ok()?;
    let (scheme, encoded) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = STANDARD.decode(encoded.trim()).ok()?;
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    Some((String::from_utf8(bytes[..colon].to_vec()).ok()?, bytes[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(user: &str, password: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))).into_bytes()
    }

    #[test]
    fn headers_of_basic_authentication() {
        let read = |text: &str| credentials(text.as_bytes());
        assert_eq!(credentials(&basic("a", "b:c")), Some(("a".into(), b"b:c".to_vec())));
        assert_eq!(read("basic YTpi"), Some(("a".into(), b"b".to_vec())));
        assert_eq!(read("Basic Og=="), Some((String::new(), Vec::new())));
        for text in ["", "Basic", "Basic !", "Bearer YTpi", "Basic YWI=", "YTpi"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(credentials(b"Basic \xff"), None);
    }

    #[tokio::test]
    async fn passwords_are_verified_once() {
        let verified = Arc::new(Verified::new());
        let hash = bcrypt::hash("secret", 4).unwrap();
        let users = Users::new([("a".to_owned(), hash.clone())]);
        let ask = async |user: &str, password: &str| {
            users.authenticate(&verified, Some(&basic(user, password)), None).await
        };
        assert_eq!(ask("a", "secret").await, Authentication::Welcome);
        assert_eq!(ask("a", "wrong").await, Authentication::Unknown);
        assert_eq!(ask("b", "secret").await, Authentication::Unknown);
        assert_eq!(users.authenticate(&verified, None, None).await, Authentication::Unknown);
        assert_eq!(verified.pairs.lock().unwrap().len(), 3);
        assert_eq!(ask("a", "secret").await, Authentication::Welcome);
        assert_eq!(ask("b", "secret").await, Authentication::Unknown);
        assert_eq!(verified.pairs.lock().unwrap().len(), 3, "each is remembered");
        // Another password for the user: the stored result belongs to the old hash.
        let users = Users::new([("a".to_owned(), bcrypt::hash("other", 4).unwrap())]);
        assert_eq!(
            users.authenticate(&verified, Some(&basic("a", "secret")), None).await,
            Authentication::Unknown
        );
        assert_eq!(
            users.authenticate(&verified, Some(&basic("a", "other")), None).await,
            Authentication::Welcome
        );
        assert_eq!(
            Users::default().authenticate(&verified, None, None).await,
            Authentication::Welcome,
            "nobody is asked"
        );
    }

    #[tokio::test]
    async fn who_guesses_does_not_push_out_who_is_known() {
        let verified = Arc::new(Verified::new());
        let users = Users::new([("a".to_owned(), bcrypt::hash("secret", 4).unwrap())]);
        let ask =
            async |password: &str| users.authenticate(&verified, Some(&basic("a", password)), None).await;
        assert_eq!(ask("secret").await, Authentication::Welcome);
        let right = verified.pairs.lock().unwrap().keys().next().unwrap().clone();
        for guess in 0..3 * MOST_VERIFIED {
            assert_eq!(ask(&guess.to_string()).await, Authentication::Unknown);
        }
        let pairs = verified.pairs.lock().unwrap();
        assert!(pairs.len() <= MOST_VERIFIED && pairs.get(&right) == Some(&true));
    }

    #[test]
    fn hashes() {
        for hash in [
            "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
            "$2b$04$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy",
        ] {
            assert_eq!(check(hash), Ok(()));
        }
        for text in [
            "",
            "doe",
            "$2y$03$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
            "$2y$10$short",
            "$1$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn one_address_cannot_keep_all_others_waiting() {
        let verified = Arc::new(Verified::new());
        let users = Arc::new(Users::new([("a".to_owned(), bcrypt::hash("secret", 8).unwrap())]));
        let ask = |password: String, peer: [u8; 4]| {
            let (users, verified) = (users.clone(), verified.clone());
            tokio::spawn(async move {
                users.authenticate(&verified, Some(&basic("a", &password)), Some(peer.into())).await
            })
        };
        let guesses: Vec<_> = (0..40).map(|guess| ask(guess.to_string(), [10, 0, 0, 1])).collect();
        tokio::task::yield_now().await;
        assert_eq!(ask("secret".into(), [10, 0, 0, 2]).await.unwrap(), Authentication::Welcome);
        let mut busy = 0;
        for guess in guesses {
            let answer = guess.await.unwrap();
            assert_ne!(answer, Authentication::Welcome);
            busy += usize::from(answer == Authentication::Busy);
        }
        assert_eq!(busy, 40 - MOST_OF_ONE);
        assert!(verified.waiting.lock().unwrap().is_empty(), "places are free again");
        // Who hangs up does not lose what was found out for the next time.
        let given_up = ask("late".into(), [10, 0, 0, 3]);
        tokio::task::yield_now().await;
        given_up.abort();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        assert_eq!(verified.pairs.lock().unwrap().len(), MOST_OF_ONE + 2);
    }
}
