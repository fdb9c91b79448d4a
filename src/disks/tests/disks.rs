//! Disks of each kind, as the kernel and udev show them.

use super::*;

const SATA: &str = "pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0";
const SAS: &str = "pci0000:00/0000:00:03.0/0000:02:00.0/host7/port-7:0/expander-7:0/port-7:0:5/end_device-7:0:5/target7:0:5/7:0:5:0";

fn sata(tree: &Tree) {
    let attributes = [
        ("vendor", "ATA     \n"),
        ("model", "Samsung SSD 860 \n"),
        ("rev", "4B6Q\n"),
        ("wwid", "t10.ATA     Samsung\n"),
    ];
    tree.disk(SATA, "scsi", "sda", "8:0", &attributes);
    tree.write(&format!("sys/devices/{}/ata_port/ata3/port_no", &SATA[..28]), "1\n");
}

#[test]
fn sata_disks() {
    let tree = Tree::new();
    sata(&tree);
    // Before Linux 5.5, and without udev, the model is what an inquiry has room for.
    assert_eq!(
        tree.identity("sda"),
        identity(["Samsung SSD 860", "", "", "", "4B6Q"], ["pci-0000:00:1f.2-ata-1", "sata", "", ""])
    );
    tree.write(
        "udev/b8:0",
        "E:ID_MODEL=Samsung_SSD_860_EVO_1TB\nE:ID_MODEL_ENC=Samsung\\x20SSD\\x20860\\x20EVO\\x201TB\\x20\\x20\n\
         E:ID_SERIAL=Samsung_SSD_860_EVO_1TB_S3Z9NB0K123456X\nE:ID_SERIAL_SHORT=S3Z9NB0K123456X\nE:ID_REVISION=RVT04B6Q\n\
         E:ID_WWN=0x5002538e40010203\nE:ID_PATH=pci-0000:00:1f.2-ata-1.0\n",
    );
    let told = ["Samsung SSD 860 EVO 1TB", "", "S3Z9NB0K123456X", "0x5002538e40010203", "4B6Q"];
    assert_eq!(tree.identity("sda"), identity(told, ["pci-0000:00:1f.2-ata-1.0", "sata", "", ""]));
    fs::remove_dir_all(tree.path("udev")).unwrap();
    let name = [0x50, 0x02, 0x53, 0x8e, 0x40, 1, 2, 3];
    let page = ata_page("Samsung SSD 860 EVO 1TB", "S3Z9NB0K123456X", "RVT04B6Q", name);
    tree.write(&format!("sys/devices/{SATA}/vpd_pg89"), page);
    let told = ["Samsung SSD 860 EVO 1TB", "", "S3Z9NB0K123456X", "0x5002538e40010203", "RVT04B6Q"];
    assert_eq!(tree.identity("sda"), identity(told, ["pci-0000:00:1f.2-ata-1", "sata", "", ""]));
}

#[test]
fn sas_disks_in_an_enclosure() {
    let tree = Tree::new();
    let attributes = [
        ("vendor", "SEAGATE \n"),
        ("model", "ST4000NM0034    \n"),
        ("rev", "MS2A\n"),
        ("wwid", "naa.5000c500a1b2c3d4\n"),
        ("vpd_pg80", "\0\u{0}\0\u{14}Z4F0ABCD0000R633XXXX"),
    ];
    tree.disk(SAS, "scsi", "sdb", "8:16", &attributes);
    let mut page = b"\0\x80\0\x14Z4F0ABCD0000R633XXXX".to_vec();
    tree.write(&format!("sys/devices/{SAS}/vpd_pg80"), &page);
    // The adapter is the second of two hosts of one card.
    fs::create_dir_all(tree.sys("devices/pci0000:00/0000:00:03.0/0000:02:00.0/host6")).unwrap();
    let told = ["ST4000NM0034", "SEAGATE", "Z4F0ABCD0000R633XXXX", "0x5000c500a1b2c3d4", "MS2A"];
    let way = "pci-0000:02:00.0-scsi-1:0:5:0";
    assert_eq!(tree.identity("sdb"), identity(told, [way, "sas", "", ""]));
    let component = "sys/class/enclosure/7:0:24:0/ArrayDevice05";
    tree.write(&format!("{component}/status"), "OK\n");
    tree.link(&format!("{component}/device"), &format!("sys/devices/{SAS}"));
    assert_eq!(tree.identity("sdb"), identity(told, [way, "sas", "7:0:24:0", "ArrayDevice05"]));
    tree.write(&format!("{component}/slot"), "5\n");
    tree.write("sys/class/enclosure/7:0:24:0/id", "0x500304801f2a3b3f\n");
    assert_eq!(tree.identity("sdb"), identity(told, [way, "sas", "0x500304801f2a3b3f", "5"]));
    assert_eq!(
        tree.read().told("sdb").unwrap(),
        "disk `sdb`: model ST4000NM0034, serial Z4F0ABCD0000R633XXXX, slot 5 of enclosure 0x500304801f2a3b3f"
    );
    // A name only in the page, and a page that is cut.
    fs::remove_file(tree.sys("devices").join(SAS).join("wwid")).unwrap();
    tree.write(
        &format!("sys/devices/{SAS}/vpd_pg83"),
        [0, 0x83, 0, 12, 1, 3, 0, 8, 0x50, 0, 0xc5, 0, 1, 2, 3, 4],
    );
    page.truncate(10);
    tree.write(&format!("sys/devices/{SAS}/vpd_pg80"), &page);
    let DeviceIdentity { serial, wwn, .. } = tree.identity("sdb");
    assert_eq!((serial.as_str(), wwn.as_str()), ("Z4F0AB", "0x5000c50001020304"));
}

const NVME: [(&str, &str); 4] = [
    ("model", "SAMSUNG MZQL21T9HCJR-00A07              \n"),
    ("serial", "S64GNE0R123456      \n"),
    ("firmware_rev", "GDC5602Q\n"),
    ("transport", "pcie\n"),
];

#[test]
fn nvme_disks() {
    let tree = Tree::new();
    let controller = "pci0000:3a/0000:3a:00.0/0000:3b:00.0/nvme/nvme0";
    tree.block(&format!("{controller}/nvme0n1"), "259:0");
    tree.link(&format!("sys/devices/{controller}/nvme0n1/device"), &format!("sys/devices/{controller}"));
    fs::create_dir_all(tree.sys("class/nvme")).unwrap();
    tree.link(&format!("sys/devices/{controller}/subsystem"), "sys/class/nvme");
    for (file, text) in NVME {
        tree.write(&format!("sys/devices/{controller}/{file}"), text);
    }
    tree.write(&format!("sys/devices/{controller}/nvme0n1/wwid"), "eui.36344730521234560025384500000001\n");
    let told = [
        "SAMSUNG MZQL21T9HCJR-00A07",
        "",
        "S64GNE0R123456",
        "eui.36344730521234560025384500000001",
        "GDC5602Q",
    ];
    assert_eq!(tree.identity("nvme0n1"), identity(told, ["pci-0000:3b:00.0-nvme-1", "nvme", "", ""]));
    tree.write("sys/bus/pci/slots/7/address", "0000:3b:00\n");
    tree.write("sys/bus/pci/slots/8/address", "0000:3c:00\n");
    assert_eq!(tree.identity("nvme0n1"), identity(told, ["pci-0000:3b:00.0-nvme-1", "nvme", "", "7"]));
}

/// One disk with two controllers: the disk is below the subsystem, and its paths are hidden.
#[test]
fn nvme_disks_with_several_paths() {
    let tree = Tree::new();
    let subsystem = "virtual/nvme-subsystem/nvme-subsys0";
    tree.block(&format!("{subsystem}/nvme0n1"), "259:0");
    tree.link(&format!("sys/devices/{subsystem}/nvme0n1/device"), &format!("sys/devices/{subsystem}"));
    fs::create_dir_all(tree.sys("class/nvme-subsystem")).unwrap();
    tree.link(&format!("sys/devices/{subsystem}/subsystem"), "sys/class/nvme-subsystem");
    for (file, text) in &NVME[..3] {
        tree.write(&format!("sys/devices/{subsystem}/{file}"), text);
    }
    for (number, address) in [(0, "0000:3b:00.0"), (1, "0000:5e:00.0")] {
        let controller = format!("pci0000:3a/{address}/nvme/nvme{number}");
        tree.write(&format!("sys/devices/{controller}/transport"), "pcie\n");
        tree.link(&format!("sys/devices/{subsystem}/nvme{number}"), &format!("sys/devices/{controller}"));
        let path = format!("{controller}/nvme0c{number}n1");
        tree.block(&path, "0:0");
        tree.write(&format!("sys/devices/{path}/hidden"), "1\n");
    }
    let found = tree.identity("nvme0n1");
    assert_eq!(found.path, "pci-0000:3b:00.0-nvme-1,pci-0000:5e:00.0-nvme-1");
    assert_eq!((found.serial.as_str(), found.transport.as_str()), ("S64GNE0R123456", "nvme"));
    let disks = tree.read();
    let names: Vec<&str> = disks.devices().iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["nvme0n1"]);
}

#[test]
fn disks_of_machines_that_are_not_real() {
    let tree = Tree::new();
    let device = "pci0000:00/0000:00:05.0/virtio2";
    tree.disk(device, "virtio", "vda", "254:0", &[("vendor", "0x1af4\n")]);
    assert_eq!(tree.identity("vda"), identity([""; 5], ["pci-0000:00:05.0", "virtio", "", ""]));
    // Without the end of a line, as the driver prints it.
    tree.write(&format!("sys/devices/{device}/block/vda/serial"), "disk-7");
    assert_eq!(tree.identity("vda").serial, "disk-7");
    assert_eq!(tree.read().told("vda").unwrap(), "disk `vda`: serial disk-7, at pci-0000:00:05.0");
    let device = "pci0000:00/0000:00:06.0/virtio3/host1/target1:0:0/1:0:0:0";
    let attributes = [("vendor", "QEMU    \n"), ("model", "QEMU HARDDISK   \n"), ("rev", "2.5+\n")];
    tree.disk(device, "scsi", "sda", "8:0", &attributes);
    assert_eq!(
        tree.identity("sda"),
        identity(
            ["QEMU HARDDISK", "QEMU", "", "", "2.5+"],
            ["pci-0000:00:06.0-scsi-0:0:0:0", "virtio", "", ""]
        )
    );
}

#[test]
fn sticks_and_cards() {
    let tree = Tree::new();
    let device = "pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0/host3/target3:0:0/3:0:0:0";
    tree.disk(device, "scsi", "sdc", "8:32", &[("vendor", "SanDisk \n"), ("model", "Ultra           \n")]);
    tree.write("sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/idVendor", "0781\n");
    tree.write("sys/devices/pci0000:00/0000:00:14.0/usb1/1-4/serial", "4C530001\n");
    let found = tree.identity("sdc");
    assert_eq!((found.transport.as_str(), found.serial.as_str()), ("usb", "4C530001"));
    let device = "platform/soc/fe340000.mmc/mmc_host/mmc0/mmc0:aaaa";
    let attributes = [("name", "SC16G\n"), ("serial", "0x1a2b3c4d\n"), ("fwrev", "0x0\n")];
    tree.disk(device, "mmc", "mmcblk0", "179:0", &attributes);
    assert_eq!(
        tree.identity("mmcblk0"),
        identity(["SC16G", "", "0x1a2b3c4d", "", "0x0"], ["", "mmc", "", ""])
    );
}
