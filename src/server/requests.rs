//! Requests under way: how many there may be, in total and of one client.

use super::network::{self, Network};
use crate::lock::lock;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

/// The requests that are under way.
#[derive(Debug)]
pub(super) struct Requests {
    /// Most at a time; 0 for no limit.
    most: usize,
    under_way: Mutex<HashMap<Network, usize>>,
}

/// A request that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct RequestPermit {
    requests: Arc<Requests>,
    network: Network,
}

impl Requests {
    pub(super) fn new(most: u16) -> Arc<Self> {
        Arc::new(Self { most: most.into(), under_way: Mutex::default() })
    }

    /// Begins a request of this client, unless too many are under way: in total, or of its network, which leaves a quarter to
    /// others. The error is how many those are.
    pub(super) fn begin(self: &Arc<Self>, peer: IpAddr) -> Result<RequestPermit, usize> {
        let network = Network::of(peer);
        let mut under_way = lock(&self.under_way);
        let own = under_way.get(&network).copied().unwrap_or(0);
        let all = under_way.values().sum();
        if self.most > 0 && own >= network::share(self.most) {
            return Err(own);
        }
        if self.most > 0 && all >= self.most {
            return Err(all);
        }
        under_way.insert(network, own + 1);
        drop(under_way);
        Ok(RequestPermit { requests: self.clone(), network })
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let mut under_way = lock(&self.requests.under_way);
        if let Some(own) = under_way.get_mut(&self.network) {
            *own -= 1;
            if *own == 0 {
                under_way.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn one_client_leaves_a_quarter_to_others() {
        let requests = Requests::new(8);
        let held: Vec<_> = (0..6).map(|_| requests.begin(address(1)).unwrap()).collect();
        assert_eq!(requests.begin(address(1)).unwrap_err(), 6);
        let _others = [requests.begin(address(2)).unwrap(), requests.begin(address(3)).unwrap()];
        assert_eq!(requests.begin(address(2)).unwrap_err(), 8);
        assert_eq!(requests.begin(address(4)).unwrap_err(), 8);
        drop(held);
        assert!(requests.begin(address(4)).is_ok());
        assert_eq!(lock(&requests.under_way).len(), 2, "who has none is forgotten");
    }

    #[test]
    fn a_limit_of_one_lets_one_in_and_none_lets_all_in() {
        let one = Requests::new(1);
        let held = one.begin(address(1)).unwrap();
        assert_eq!(one.begin(address(2)).unwrap_err(), 1);
        drop(held);
        assert!(one.begin(address(2)).is_ok());
        let all = Requests::new(0);
        let held: Vec<_> = (0..1000).map(|_| all.begin(address(1))).collect();
        assert!(held.iter().all(Result::is_ok));
    }
}
