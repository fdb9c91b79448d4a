//! The identity of a disk: from sysfs, and from udev what sysfs does not tell, so that it is the same where udev is not seen.

use super::{
    DeviceIdentity, MAX_TEXT,
    enclosure::Slots,
    label,
    udev::Properties,
    vpd::{self, Ata},
};
use crate::host::sysfs;
use std::{
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Most directories above a disk in which the adapter of a USB disk is looked for.
const MAX_ANCESTORS: usize = 12;

/// A disk's directories in sysfs.
struct DiskPlace {
    /// That of the block device.
    block: PathBuf,
    /// That of its device, without links on the way.
    device: PathBuf,
    /// What drives it: `scsi`, `nvme`, `virtio`.
    subsystem: String,
}

/// Reads a disk. `asked` is its serial number if the disk itself was asked for it before, as for virtio, where reading it is a
/// request.
pub(super) fn read(block: &Path, udev: &Properties, slots: &Slots, asked: Option<&str>) -> DeviceIdentity {
    let Ok(device) = fs::canonicalize(block.join("device")) else { return DeviceIdentity::default() };
    let subsystem = fs::read_link(device.join("subsystem"));
    let subsystem = subsystem.ok().and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
    let place = DiskPlace { block: block.into(), device, subsystem: subsystem.unwrap_or_default() };
    let page = |name: &str| sysfs::bytes(&place.device.join(name));
    let is_scsi = place.subsystem == "scsi";
    let vendor = if is_scsi { place.text("vendor") } else { String::new() };
    let is_ata = vendor == "ATA";
    let ata = page("vpd_pg89").and_then(|page| vpd::ata(&page)).filter(|_| is_scsi);
    let of_ata =
        |part: fn(&Ata) -> &[u8]| ata.as_ref().map(|ata| label(part(ata), MAX_TEXT)).unwrap_or_default();
    let from_udev = |names: &[&str]| udev.first(names);
    // Without its page, the model of an ATA disk is cut.
    let cut =
        |text: String| if is_ata { first([from_udev(&["ID_MODEL_ENC", "ID_MODEL"]), text]) } else { text };
    let card = |name: &str| if place.subsystem == "mmc" { place.text(name) } else { String::new() };
    let transport = place.transport();
    let serial_of_page = || page("vpd_pg80").and_then(|page| Some(label(vpd::serial(&page)?, MAX_TEXT)));
    let asked = || asked.map_or_else(|| text(&place.block.join("serial")), ToOwned::to_owned);
    let (enclosure, slot) = place.slot(slots);
    DeviceIdentity {
        model: first_of([
            &|| of_ata(|ata| &ata.model),
            &|| cut(place.text("model")),
            &|| card("name"),
            &|| from_udev(&["ID_MODEL_ENC", "ID_MODEL"]),
        ]),
        vendor: if is_ata {
            String::new()
        } else {
            first_of([&|| vendor.clone(), &|| from_udev(&["ID_VENDOR_ENC", "ID_VENDOR"])])
        },
        serial: first_of([
            &|| of_ata(|ata| &ata.serial),
            &|| serial_of_page().unwrap_or_default(),
            &|| place.text("serial"),
            &|| place.adapter_serial(&transport),
            &|| from_udev(&["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"]),
            &asked,
        ]),
        wwn: first_of([
            &|| wwn(&text(&place.block.join("wwid"))),
            &|| wwn(&place.text("wwid")),
            &|| page("vpd_pg83").and_then(|page| vpd::wwn(&page)).unwrap_or_default(),
            &|| ata.as_ref().and_then(|ata| ata.wwn.clone()).unwrap_or_default(),
            &|| from_udev(&["ID_WWN_WITH_EXTENSION", "ID_WWN"]),
        ]),
        revision: first_of([
            &|| of_ata(|ata| &ata.revision),
            &|| place.text("firmware_rev"),
            &|| place.text("rev"),
            &|| card("fwrev"),
            &|| from_udev(&["ID_REVISION"]),
        ]),
        path: first_of([&|| from_udev(&["ID_PATH"]), &|| place.path()]),
        transport,
        enclosure,
        slot,
    }
}

/// The first text that is not empty; later ones are not asked for.
fn first_of<const N: usize>(texts: [&dyn Fn() -> String; N]) -> String {
    texts.into_iter().map(|text| text()).find(|text| !text.is_empty()).unwrap_or_default()
}

fn first<const N: usize>(texts: [String; N]) -> String {
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
}

fn text(path: &Path) -> String {
    sysfs::bytes(path).map(|bytes| label(&bytes, MAX_TEXT)).unwrap_or_default()
}

/// A name of the kernel as udev writes it: `naa.5000c500…` of SCSI is `0x5000c500…`, those of `NVMe` stay. Others, such as
/// `t10.ATA     …`, are made of the model.
fn wwn(text: &str) -> String {
    match text.split_once('.') {
        Some(("naa", number)) => format!("0x{number}"),
        Some(("eui" | "uuid" | "nvme", _)) => text.to_owned(),
        _ => String::new(),
    }
}

/// Whether a name is that of a numbered thing: `ata1`, `host0`.
fn is_numbered(name: &str, kind: &str) -> bool {
    name.strip_prefix(kind)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a name is an address of the PCI bus: `0000:00:1f.2`.
fn is_pci(name: &str) -> bool {
    let form = ["xxxx:xx:xx.x", "xxxxx:xx:xx.x"];
    let is_like = |form: &&str| {
        name.len() == form.len()
            && name
                .bytes()
                .zip(form.bytes())
                .all(|(byte, like)| if like == b'x' { byte.is_ascii_hexdigit() } else { byte == like })
    };
    form.iter().any(is_like)
}

impl DiskPlace {
    /// An attribute of the device.
    fn text(&self, name: &str) -> String {
        text(&self.device.join(name))
    }

    fn above(&self) -> impl Iterator<Item = &str> {
        self.device.iter().filter_map(|part| part.to_str())
    }

    /// The address of the last device of the PCI bus above a directory.
    fn pci(path: &Path) -> Option<&str> {
        path.iter().rev().filter_map(|part| part.to_str()).find(|part| is_pci(part))
    }

    /// The controllers of a disk of `NVMe`: several for one with several paths.
    fn controllers(&self) -> Vec<PathBuf> {
        if self.subsystem == "nvme" {
            return vec![self.device.clone()];
        }
        if self.subsystem != "nvme-subsystem" {
            return Vec::new();
        }
        let names = sysfs::entries(&self.device)
            .filter(|name| name.to_str().is_some_and(|name| is_numbered(name, "nvme")));
        let mut found: Vec<PathBuf> =
            names.filter_map(|name| fs::canonicalize(self.device.join(name)).ok()).collect();
        found.sort();
        found
    }

    fn transport(&self) -> String {
        if let Some(controller) = self.controllers().first() {
            let transport = text(&controller.join("transport"));
            return if matches!(transport.as_str(), "" | "pcie") {
                "nvme".into()
            } else {
                format!("nvme-{transport}")
            };
        }
        let word = match self.subsystem.as_str() {
            "virtio" => "virtio",
            "mmc" => "mmc",
            _ => {
                const KINDS: [(&str, &str); 6] = [
                    ("usb", "usb"),
                    ("ata", "sata"),
                    ("end_device-", "sas"),
                    ("rport-", "fc"),
                    ("session", "iscsi"),
                    ("virtio", "virtio"),
                ];
                let is_kind = |part: &str, kind: &str| {
                    if kind.ends_with('-') { part.starts_with(kind) } else { is_numbered(part, kind) }
                };
                let found = KINDS.iter().find(|(kind, _)| self.above().any(|part| is_kind(part, kind)));
                found.map_or("", |(_, word)| word)
            }
        };
        word.to_owned()
    }

    /// The serial number of the adapter or stick that a disk of USB is.
    fn adapter_serial(&self, transport: &str) -> String {
        if transport != "usb" {
            return String::new();
        }
        let mut above = self.device.ancestors().take(MAX_ANCESTORS);
        above
            .find(|path| path.join("idVendor").exists())
            .map(|path| text(&path.join("serial")))
            .unwrap_or_default()
    }

    /// The way to the disk in the form of udev's `ID_PATH`.
    fn path(&self) -> String {
        let controllers = self.controllers();
        if !controllers.is_empty() {
            let namespace = first([text(&self.block.join("nsid")), self.namespace()]);
            let way = |path: &PathBuf| Some(format!("pci-{}-nvme-{namespace}", Self::pci(path)?));
            return label(
                controllers.iter().filter_map(way).collect::<Vec<_>>().join(",").as_bytes(),
                MAX_TEXT,
            );
        }
        let Some(pci) = Self::pci(&self.device) else { return String::new() };
        if self.subsystem != "scsi" {
            return format!("pci-{pci}");
        }
        if let Some(port) = self.above().find(|part| is_numbered(part, "ata")) {
            let number = self.device.ancestors().find(|path| path.ends_with(port));
            let number = number.map(|path| text(&path.join("ata_port").join(port).join("port_no")));
            return format!("pci-{pci}-ata-{}", first([number.unwrap_or_default(), port[3..].to_owned()]));
        }
        format!("pci-{pci}-scsi-{}", self.address())
    }

    /// Host, channel, target and unit of a SCSI disk. The host is counted from the first of its adapter, as udev does: its own
    /// number depends on which adapter was found first.
    fn address(&self) -> String {
        let name = self.device.file_name().map(|name| label(name.as_bytes(), MAX_TEXT)).unwrap_or_default();
        let Some((host, rest)) = name.split_once(':') else { return name };
        let own = format!("host{host}");
        let adapter = self.device.ancestors().find(|path| path.ends_with(&own)).and_then(Path::parent);
        let hosts = adapter.into_iter().flat_map(sysfs::entries);
        let numbers = hosts.filter_map(|file| file.to_str()?.strip_prefix("host")?.parse::<u64>().ok());
        let number =
            host.parse::<u64>().ok().zip(numbers.min()).map(|(own, least)| own.saturating_sub(least));
        format!("{}:{rest}", number.map_or_else(|| host.to_owned(), |number| number.to_string()))
    }

    /// The number behind the last `n` of `nvme0n1`.
    fn namespace(&self) -> String {
        let name = self.block.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.rsplit_once('n').map(|(_, number)| number.to_owned()).unwrap_or_default()
    }

    fn slot(&self, slots: &Slots) -> (String, String) {
        if let Some((enclosure, slot)) = slots.of_scsi(&self.device) {
            return (enclosure.clone(), slot.clone());
        }
        let controllers = self.controllers();
        let found = controllers.iter().find_map(|path| slots.of_pci(Self::pci(path)?));
        (String::new(), found.cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        for (text, expected) in [
            ("naa.5000c50001020304", "0x5000c50001020304"),
            ("eui.0025385b71b0a1b2", "eui.0025385b71b0a1b2"),
            ("t10.ATA     ST4000   Z1", ""),
            ("", ""),
        ] {
            assert_eq!(wwn(text), expected);
        }
        for (name, expected) in [
            ("0000:00:1f.2", true),
            ("10000:e1:00.0", true),
            ("0:0:0:0", false),
            ("pci0000:00", false),
            ("", false),
        ] {
            assert_eq!(is_pci(name), expected, "{name}");
        }
        assert!(is_numbered("ata12", "ata") && !is_numbered("ata", "ata") && !is_numbered("ata_port", "ata"));
    }
}
