//! Addresses of the Internet.

use super::Decode;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tapster_ebpf::typed::Type;

/// Numbers of families of addresses.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// How an address lies in a raw value.
#[derive(Clone, Copy, Debug)]
enum AddressForm {
    V4,
    V6,
    /// A `struct sockaddr_in` or `struct sockaddr_in6`, by its family.
    Socket,
}

/// An address of IPv4 or IPv6, in the order of the network.
#[derive(Debug)]
pub(super) struct IpDecoder {
    form: AddressForm,
}

impl IpDecoder {
    /// Makes the decoder for a label of this type.
    pub(super) fn of(ty: &Type) -> Self {
        let form = match ty {
            Type::Bytes { size: 16 } => AddressForm::V6,
            Type::Bytes { size: 28 } => AddressForm::Socket,
            // A `__be32` that was read as a number has its bytes in the order of memory on a little-endian machine.
            _ => AddressForm::V4,
        };
        Self { form }
    }
}

impl Decode for IpDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let family = part::<2>(raw, 0).map_or(0, u16::from_le_bytes);
        let address = match (self.form, family) {
            (AddressForm::V4, _) => v4(raw, 0),
            (AddressForm::V6, _) => v6(raw, 0),
            (AddressForm::Socket, AF_INET) => v4(raw, 4),
            (AddressForm::Socket, AF_INET6) => v6(raw, 8),
            (AddressForm::Socket, _) => None,
        };
        Some(address.map_or_else(|| "~none".to_owned(), |address| address.to_string()))
    }
}

fn v4(raw: &[u8], at: usize) -> Option<IpAddr> {
    part(raw, at).map(|octets: [u8; 4]| Ipv4Addr::from(octets).into())
}

/// An address of IPv6, or that of IPv4 that is written as one.
fn v6(raw: &[u8], at: usize) -> Option<IpAddr> {
    part(raw, at).map(|octets: [u8; 16]| Ipv6Addr::from(octets).to_canonical())
}

fn part<const N: usize>(raw: &[u8], at: usize) -> Option<[u8; N]> {
    raw.get(at..at + N)?.try_into().ok()
}

/// The address of a network card.
#[derive(Debug)]
pub(super) struct MacDecoder;

impl Decode for MacDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let bytes: Vec<String> = raw.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Some(bytes.join(":"))
    }
}

/// A port in the order of the network.
#[derive(Debug)]
pub(super) struct PortDecoder;

impl Decode for PortDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        Some(part(raw, 0).map_or(0, u16::from_be_bytes).to_string())
    }
}
