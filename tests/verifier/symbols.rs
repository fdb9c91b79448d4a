//! A kernel that tells of all symbols: a small one tells of functions only. What stands at an address does not matter to the verifier.

use tapster::kernel::Kernel;
use tapster_ebpf::{
    attach::{Functions, Missing, SiteRequest, Sites, UnknownSymbol, UserFunctions},
    probe::Root,
    usdt::UsdtProbe,
};

/// Functions of the kernel, and any symbol.
#[derive(Debug)]
pub(crate) struct Symbols<'a>(pub(crate) &'a Kernel);

impl Functions for Symbols<'_> {
    fn traced(&self) -> Result<(), Missing> {
        self.0.traced()
    }

    fn probing(&self) -> Result<(), Missing> {
        self.0.probing()
    }

    fn probed(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing> {
        self.0.probed(wanted)
    }

    fn user(&self, root: &Root, binary: &str, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing> {
        self.0.user(root, binary, wanted)
    }

    fn usdt(
        &self,
        root: &Root,
        binary: &str,
        provider: Option<&str>,
        name: &str,
    ) -> Result<UsdtProbe, Missing> {
        self.0.usdt(root, binary, provider, name)
    }

    fn symbol(&self, _: &str) -> Result<u64, UnknownSymbol> {
        Ok(0xffff_ffff_8200_0000)
    }

    fn namespace(&self, root: &Root) -> Result<Option<u32>, Missing> {
        self.0.namespace(root)
    }
}
