//! Which disk is which: what the machine was given on its command line is what the exporter tells.

use crate::{
    kernel::Kernel,
    machine::Results,
    support::metrics::{Metrics, whole},
};
use serde_json::Value;

const INFO: &str = "tapster_block_device_info";
const BACKING: &str = "tapster_block_device_backing_info";

/// The machine's devices, as arguments of QEMU; those that end with `drive=` get an empty one.
pub(super) const HARDWARE: &[&str] = &[
    "virtio-blk-pci,addr=0x10,serial=VIRTIO-1,drive=",
    "ahci,addr=0x11,id=sata",
    "ide-hd,bus=sata.2,serial=SATA-1,model=A model of more than 16,ver=SATAVER1,wwn=0x5002538e40010203,rotation_rate=7200,drive=",
    "virtio-scsi-pci,addr=0x12,id=scsi",
    "scsi-hd,bus=scsi.0,scsi-id=3,serial=SCSI-1,vendor=MAKER,product=SCSI MODEL,ver=V1,wwn=0x5000c500a1b2c3d4,rotation_rate=1,drive=",
    "nvme,addr=0x13,serial=NVME-1,drive=",
    "nvme-subsys,id=pair,nqn=pair",
    "nvme,addr=0x14,id=left,serial=NVME-2,subsys=pair",
    "nvme,addr=0x15,id=right,serial=NVME-2,subsys=pair",
    "nvme-ns,bus=left,nsid=1,shared=on,drive=",
];

/// A label of the one device with these others.
fn label(metrics: &Metrics, with: &[(&str, &str)], name: &str) -> String {
    let values = metrics.values(INFO, with, name);
    let [value] = &values[..] else { panic!("{name} of {with:?} is {values:?}") };
    value.clone()
}

fn expect(metrics: &Metrics, serial: &str, expected: &[(&str, &str)]) -> String {
    let disk = [("kind", "disk"), ("serial", serial)];
    for (name, value) in expected {
        assert_eq!(label(metrics, &disk, name), *value, "{name} of {serial}");
    }
    label(metrics, &disk, "device")
}

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let metrics = results.metrics("first.prom");
    let virtio = expect(&metrics, "VIRTIO-1", &[("transport", "virtio"), ("path", "pci-0000:00:10.0")]);
    // An inquiry has room for 16 characters.
    let model = "A model of more than 16";
    let sata = expect(
        &metrics,
        "SATA-1",
        &[
            ("model", model),
            ("vendor", ""),
            ("revision", "SATAVER1"),
            ("wwn", "0x5002538e40010203"),
            ("path", "pci-0000:00:11.0-ata-3"),
            ("transport", "sata"),
            ("rotational", "1"),
        ],
    );
    let scsi = expect(
        &metrics,
        "SCSI-1",
        &[
            ("model", "SCSI MODEL"),
            ("vendor", "MAKER"),
            ("revision", "V1"),
            ("wwn", "0x5000c500a1b2c3d4"),
            ("path", "pci-0000:00:12.0-scsi-0:0:3:0"),
            ("rotational", "0"),
            ("group", ""),
        ],
    );
    assert_eq!(results.text("disks").trim(), format!("{sata} {scsi}"));
    let one = expect(
        &metrics,
        "NVME-1",
        &[
            ("model", "QEMU NVMe Ctrl"),
            ("path", "pci-0000:00:13.0-nvme-1"),
            ("transport", "nvme"),
            ("group", "fast"),
        ],
    );
    let two = expect(&metrics, "NVME-2", &[("path", "pci-0000:00:14.0-nvme-1,pci-0000:00:15.0-nvme-1")]);
    let slots = results.text("slots");
    let slot = slots.lines().find_map(|line| line.strip_suffix(":0000:00:13"));
    let slot = slot.map(|line| line.trim_start_matches("/sys/bus/pci/slots/").trim_end_matches("/address"));
    assert_eq!(label(&metrics, &[("device", &one)], "slot"), slot.unwrap_or_default(), "{slots}");
    layers(&metrics, [&sata, &scsi, &one]);
    assert_eq!(
        metrics.values(INFO, &[], "device"),
        results.metrics("second.prom").values(INFO, &[], "device"),
        "nothing happened between the two"
    );
    raid(results, &sata, &scsi);
    let [pulled, back] = ["pulled.prom", "back.prom"].map(|name| results.metrics(name));
    assert_eq!(pulled.values(INFO, &[("serial", "SCSI-1")], "device"), [""; 0]);
    expect(&pulled, "SATA-1", &[("model", model)]);
    expect(&back, "SCSI-1", &[("wwn", "0x5000c500a1b2c3d4"), ("model", "SCSI MODEL")]);
    format!("{virtio}, {sata}, {scsi}, {one}, {two} by their serial numbers")
}

/// What is on the disks, each by the one disk that it is on.
fn layers(metrics: &Metrics, [sata, scsi, nvme]: [&String; 3]) {
    let volume = [("kind", "lvm"), ("name", "guest-volume")];
    for with in [&volume[..], &[("kind", "dm"), ("name", "over")]] {
        assert_eq!(label(metrics, with, "disk"), *nvme);
        assert_eq!(label(metrics, with, "serial"), "NVME-1");
        assert_eq!(label(metrics, with, "group"), "", "it is no disk");
    }
    assert_eq!(label(metrics, &[("device", "md0")], "group"), "mirror");
    assert_eq!(label(metrics, &[("device", "md0")], "disk"), "");
    let mut below = metrics.values(BACKING, &[("device", "md0")], "backing_device");
    below.sort();
    let mut members = [sata.clone(), scsi.clone()];
    members.sort();
    assert_eq!(below, members);
    let below = metrics.values(BACKING, &[("device", &label(metrics, &volume, "device"))], "backing_device");
    assert_eq!(below, std::slice::from_ref(nvme));
    assert_eq!(metrics.values(BACKING, &[("device", "loop0")], "backing_file"), ["/tmp/file"]);
    assert_eq!(metrics.values(INFO, &[("kind", "loop")], "device"), ["loop0"], "others have no file");
    assert!(whole(metrics.find(INFO, &[("device", "loop0")]).unwrap()) == 1);
}

/// `tapster raid` has the disks of members in JSON, and in the line of a check.
fn raid(results: &Results, sata: &str, scsi: &str) {
    let all: Value = serde_json::from_str(results.text("raid.json")).unwrap();
    let members = all["arrays"][0]["members"].as_array().unwrap();
    for (member, serial) in [(sata, "SATA-1"), (scsi, "SCSI-1")] {
        let found = members.iter().find(|found| found["member"] == member).unwrap();
        assert_eq!(found["disk"]["serial"], serial, "{found}");
    }
    let line = results.text("check.txt");
    let faulty = format!("`{scsi}` is faulty; disk `{scsi}`: model SCSI MODEL, serial SCSI-1");
    assert!(line.contains(&faulty), "{line}");
}
