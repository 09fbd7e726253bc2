"""Recorded boots of a real machine, and the simulator held against them."""

import copy
import json
from pathlib import Path

import pytest

from kmemkit import Kernel
from kmemkit.mm.boot_record import boot_folder, boot_summary, is_summary
from kmemkit.mm.boots import play_boot
from kmemkit.mm.hardware_record import Dmesg, recorded_hardware, recorded_topology
from kmemkit.mm.numa import Topology
from kmemkit.mm.recording import load_recording

GOLDEN = Path(__file__).parent.parent / "golden"
BOOTS = load_recording(GOLDEN / "recorded_boots.json.gz")
FILES = load_recording(GOLDEN / "boot_folders.json.gz")
NOWHERE = Path("nowhere")


def record(boot, name="boot"):
    """Return one entry of a summary as a record."""
    (found,) = boot_summary({name: boot}, NOWHERE)
    if isinstance(found, ValueError):
        raise found
    return found


def without_log(boot):
    """Return a boot as a SUMMARY.json has it: two quotations of its log, no memory map."""
    lines = [line.partition("] ")[2] for line in boot["dmesg"].splitlines()]
    kept = [line for line in lines if line.startswith(("Memory:", "Fallback order"))]
    rest = {key: value for key, value in boot.items() if key not in ("dmesg", "iomem")}
    return {**rest, "dmesg_zones": kept[:-1], "dmesg_memory": kept[-1]}


def failures(results):
    return [(one.name, str(mismatch)) for one in results for mismatch in one.mismatches]


def test_all_boots_are_here():
    assert len(BOOTS) == 54
    assert sum(len(boot["steps"]) for boot in BOOTS.values()) == 30


@pytest.mark.parametrize("name", BOOTS)
def test_boot_and_every_change_of_settings(name):
    results = play_boot(record(BOOTS[name], name))
    assert failures(results) == []
    assert [one.name for one in results] == [
        name, *(f"{name}/step{n + 1}" for n in range(len(BOOTS[name]["steps"]))),
    ]  # fmt: skip
    assert all(one.matched == one.compared > 20 for one in results)


@pytest.mark.parametrize("name", BOOTS)
def test_boot_without_its_log(name):
    results = play_boot(record(without_log(BOOTS[name]), name))
    assert failures(results) == []


@pytest.mark.parametrize("name", BOOTS)
def test_hardware_is_booted_again(name):
    boot = record(BOOTS[name], name)
    hardware = recorded_hardware(boot)
    kernel = Kernel(
        [pages << 12 for pages in hardware.ram],
        cpus=hardware.cpus,
        arch=boot.arch,
        cmdline=boot.cmdline,
    )
    populated = {(zone.nid, zone.name): zone for zone in boot.states[0].zones if zone.present}
    assert {(zone.nid, zone.name) for zone in kernel.zones} == set(populated)
    least = int(boot.states[0].sysctls["min_free_kbytes"])
    assert abs(kernel.vm.min_free_kbytes - least) <= 44
    for zone in kernel.zones:
        recorded = populated[zone.nid, zone.name]
        assert abs(zone.managed - recorded.managed) <= max(0.018 * recorded.managed, 0)
        assert zone.pcp.batch == recorded.pcps[0].batch
        assert zone.stat_threshold == recorded.pcps[0].stat_threshold


def test_recorded_marks_come_out_of_booting_the_same_hardware():
    kernel = Kernel("256M")
    recorded = BOOTS["steps-256m"]["zones"]
    for zone, expected in zip(kernel.zones, recorded, strict=False):
        assert zone.managed == expected["managed"]
        assert zone.watermark == [expected[mark] for mark in ("min", "low", "high", "promo")]
        assert list(zone.lowmem_reserve) == expected["protection"]


# -- what is changed is noticed -------------------------------------------------------------------


def zone_of(boot, name, step=None):
    state = boot if step is None else boot["steps"][step]
    return next(zone for zone in state["zones"] if zone["zone"] == name and zone["present"])


CHANGES = {
    "min": lambda b, s: zone_of(b, "DMA32", s).update(min=zone_of(b, "DMA32", s)["min"] + 1),
    "low": lambda b, s: zone_of(b, "DMA32", s).update(low=zone_of(b, "DMA32", s)["low"] - 1),
    "high": lambda b, s: zone_of(b, "DMA", s).update(high=zone_of(b, "DMA", s)["high"] + 1),
    "promo": lambda b, s: zone_of(b, "DMA", s).update(promo=0),
    "boost": lambda b, s: zone_of(b, "DMA32", s).update(boost=512),
    "protection": lambda b, s: zone_of(b, "DMA", s)["protection"].__setitem__(3, 5),
    "batch": lambda b, s: zone_of(b, "DMA32", s)["pcp"][0].update(batch=31),
    "cpu 0 high": lambda b, s: zone_of(b, "DMA32", s)["pcp"][0].update(high=1 << 20),
    "vm stats threshold": lambda b, s: zone_of(b, "DMA", s)["pcp"][0].update(stat_threshold=3),
    "min_free_kbytes": lambda b, s: (b if s is None else b["steps"][s])["sys_vm"].update(
        min_free_kbytes="4321"
    ),
}


@pytest.mark.parametrize("step", [None, 0])
@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("log", [True, False])
def test_changed_value(what, step, log):
    boot = copy.deepcopy(BOOTS["steps-4g"] if log else without_log(BOOTS["steps-256m"]))
    CHANGES[what](boot, step)
    results = play_boot(record(boot))
    wrong = failures(results)
    assert {name for name, _ in wrong} >= {"boot" if step is None else "boot/step1"}
    assert any((what if what != "boost" else "min") in said for _, said in wrong)


def test_changed_setting():
    boot = copy.deepcopy(BOOTS["steps-256m"])
    boot["steps"][4]["sys_vm"]["watermark_scale_factor"] = "99"
    boot["steps"][11]["set"] = "lowmem_reserve_ratio:2+1+1+0+0"
    assert [name for name, _ in failures(play_boot(record(boot)))] == [
        "boot/step5", "boot/step12", "boot/step12",
    ]  # fmt: skip


def test_changed_managed_is_noticed_by_the_log():
    boot = copy.deepcopy(BOOTS["m1024-c1"])
    zone_of(boot, "DMA32")["managed"] += 1
    ((_, said),) = failures(play_boot(record(boot)))
    assert said.startswith("pages when the marks were set, by the log: recorded 245728, ")


@pytest.mark.parametrize("key", ["start_pfn", "spanned", "present"])
def test_changed_layout(key):
    boot = copy.deepcopy(BOOTS["kernelcore-1g-numa-2g+2g"])
    zone_of(boot, "Movable")[key] -= 1
    assert [said.partition(":")[0] for _, said in failures(play_boot(record(boot)))] == [
        "1/Movable start, spanned, present"
    ]


def test_changed_fallback_order_and_missing_zone():
    boot = copy.deepcopy(BOOTS["numa-2g+2g-c2"])
    boot["dmesg"] = boot["dmesg"].replace("for Node 1: 1 0", "for Node 1: 0 1")
    ((_, said),) = failures(play_boot(record(boot)))
    assert said == "fallback order for node 1: recorded [0, 1], simulated [1, 0]"
    boot = copy.deepcopy(BOOTS["movablecore-1g-4g"])
    boot["cmdline"] = ""
    said = [said for _, said in failures(play_boot(record(boot)))]
    assert "zones besides: recorded [], simulated ['0/Normal']" in said


# -- what else may have happened ------------------------------------------------------------------


def test_settings_that_boot_can_not_have_chosen_were_written_later():
    boot = copy.deepcopy(BOOTS["steps-4g"])
    late = boot["steps"].pop(4)  # scale factor 1000, min_free_kbytes 8000
    boot["steps"] = []
    boot.update(zones=late["zones"], sys_vm=late["sys_vm"])
    said = [said for _, said in failures(play_boot(record(boot)))]
    # the scale factor is explained, min_free_kbytes is not: that is a step
    assert said[0] == "min_free_kbytes: recorded ['8000'], simulated ['67584']"


def test_reserves_may_have_been_read_before():
    boot = copy.deepcopy(BOOTS["m256-c1"])
    dma = zone_of(boot, "DMA")
    assert dma["protection"] == [0, 190, 190, 190, 190]
    dma["protection"] = [0, *[50608 // 256] * 4]
    assert failures(play_boot(record(boot))) == []


def test_lists_before_6_7_have_a_fixed_limit():
    boot = copy.deepcopy(BOOTS["i386-61pae-m1024"])
    zone_of(boot, "Normal")["pcp"][0]["high"] += 1
    ((_, said),) = failures(play_boot(record(boot)))
    assert said == "0/Normal cpu 0 high: recorded 13306, simulated 13305"


def test_machine_that_is_not_qemus_is_not_booted_again():
    boot = copy.deepcopy(BOOTS["m1024-c1"])
    compared = play_boot(record(boot))[0].compared
    for qemu_args in ("", "-m 1G -smp 1 -device pc-dimm,memdev=m0", "-m 'x", "-m 1T -smp 1"):
        boot["qemu_args"] = qemu_args
        assert play_boot(record(boot))[0].compared < compared
    boot = {**boot, "qemu_args": "-m 1G -smp 1", "cmdline": "memmap=1G"}
    assert play_boot(record(boot))[0].compared < compared


# -- what the log and QEMU's arguments tell -------------------------------------------------------


def test_memory_freed_late_is_taken_from_the_zones_it_was_in():
    boot = record(BOOTS["numa-2g+2g-c2"])
    zones = boot.states[0].zones
    early = Dmesg(boot).earlier_managed(zones)
    late = {str(z): z.managed - pages for z, pages in zip(zones, early, strict=True)}
    # the initrd lay at the end of low memory, on node 1; the kernel at 16 MiB
    assert {zone: pages for zone, pages in late.items() if pages} == {
        "0/DMA32": (2028 + 4264 + 572) // 4, "1/DMA32": 252,
    }  # fmt: skip
    assert Dmesg(boot).pages_when_marks_were_set() == sum(early)


def test_kernel_elsewhere_and_initrd_in_two_zones():
    raw = copy.deepcopy(BOOTS["numa-2g+2g-c2"])
    raw["iomem"] = "  c0000000-c0ffffff : Kernel code"
    raw["dmesg"] = raw["dmesg"].replace("RAMDISK: [mem 0xbfee4000", "RAMDISK: [mem 0x7ffff000")
    boot = record(raw)
    early = Dmesg(boot).earlier_managed(boot.states[0].zones)
    late = {str(z): z.managed - n for z, n in zip(boot.states[0].zones, early, strict=True)}
    assert (late["0/DMA32"], late["1/DMA32"]) == (1, 251 + 1716)


def test_log_that_was_cut_short():
    raw = copy.deepcopy(BOOTS["m1024-c1"])
    raw["dmesg"] = "[    3.1] Run /init as init process"
    with pytest.raises(ValueError, match='dmesg has the "Memory:" line'):
        play_boot(record(raw))


def test_memory_line_from_before_deferred_memory_came():
    raw = copy.deepcopy(BOOTS["m1024-c1"])
    lines = raw["dmesg"].splitlines()
    deferred = next(line for line in lines if "deferred" in line)
    raw["dmesg"] = "\n".join([*lines, deferred])
    assert Dmesg(record(raw)).pages_when_marks_were_set() is None
    assert failures(play_boot(record(raw))) == []


@pytest.mark.parametrize(
    ("name", "cpu_node"),
    [
        ("m1024-c8", (0,) * 8), ("numa-2g+2g-c2", (0, 1)), ("numa-off", (0, 0)),
        ("numa-1g+1g-cpus-on-node0", (0, 0)), ("numa-memoryless-node1", (0, 1)), ("numa-fake4-1g", (0,)),
    ],
)  # fmt: skip
def test_cpus_of_nodes(name, cpu_node):
    for raw in (BOOTS[name], without_log(BOOTS[name])):
        topology = recorded_topology(record(raw))
        assert topology.cpu_node == cpu_node
        assert topology.emulated == ("fake" in name)
    assert isinstance(topology, Topology)


@pytest.mark.parametrize(
    ("arguments", "ram", "cpus"),
    [
        ("-m 256 -smp 3", (65536,), (3,)),
        (
            "-m 2G -smp 2 -object memory-backend-ram,id=a,size=2G -numa node,nodeid=0,cpus=0-1,memdev=a",
            (524288,), (2,),
        ),
        (
            "-smp 3 -m 1G -object memory-backend-ram,id=a,size=768M "
            "-object memory-backend-ram,id=b,size=256M -numa node,nodeid=1,memdev=b,cpus=1-2 "
            "-numa node,nodeid=0,memdev=a,cpus=0", (196608, 65536), (1, 2),
        ),
    ],
)  # fmt: skip
def test_qemu_arguments(arguments, ram, cpus):
    hardware = recorded_hardware(record({**BOOTS["m256-c1"], "qemu_args": arguments}))
    assert (hardware.ram, hardware.cpus) == (ram, cpus)


@pytest.mark.parametrize(
    "arguments",
    [
        "-m", "-m 256M -smp 2,sockets=2", "-m 256M -machine q35", "-m 1G,slots=2 -smp 1", "-smp x",
        "-m 1G -smp 2 -numa node,nodeid=0,cpus=1,memdev=a -object memory-backend-ram,id=a,size=1G",
        "-m 1G -numa node,nodeid=3,cpus=0", "-m 1G -numa node,nodeid=0,memdev=gone,cpus=0",
        "-m 1G -numa dist,src=0,dst=1,val=30", "-m 0 -smp 1", "-m 1G -smp 0", "'",
    ],
)  # fmt: skip
def test_qemu_arguments_that_are_not_understood(arguments):
    assert recorded_hardware(record({**BOOTS["m256-c1"], "qemu_args": arguments})) is None


# -- folders --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for path, text in FILES.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["i386-61pae-m1024", "numa-2g+2g-c2"])
def test_folder_says_what_the_summary_says(name, folder):
    boot = boot_folder(folder / name)
    assert failures(play_boot(boot)) == []
    same = record(BOOTS[name], name)
    assert [state.zones for state in boot.states] == [state.zones for state in same.states]
    assert [state.written for state in boot.states] == [state.written for state in same.states]
    assert (boot.arch, boot.release, boot.cpus) == (same.arch, same.release, same.cpus)


def test_summary_takes_the_log_from_the_folder_beside_it(folder):
    name = "numa-2g+2g-c2"
    raw = without_log(BOOTS[name])
    (boot,) = boot_summary({name: raw}, folder)
    assert Dmesg(boot).earlier_managed(boot.states[0].zones) is not None
    (boot,) = boot_summary({f"../{folder.name}/{name}": raw}, folder)
    assert Dmesg(boot).earlier_managed(boot.states[0].zones) is None  # not from elsewhere


def test_what_is_a_summary():
    assert is_summary(BOOTS)
    assert is_summary({"m048-c1": {"failed": True, "qemu_args": ""}})
    for other in ({}, {"boots": {}}, {"a": {"zones": []}, "b": 3}, {"ops": [], "results": []}):
        assert not is_summary(other)
    assert list(boot_summary({"m048-c1": {"failed": True}}, NOWHERE)) == []


@pytest.mark.parametrize("lacking", ["zoneinfo", "sys_vm", "step1/sys_vm", "step2/set"])
def test_folder_without_a_file(lacking, folder):
    (folder / "i386-61pae-m1024" / lacking).unlink()
    if lacking == "step2/set":
        with pytest.raises(ValueError, match="missing"):
            boot_folder(folder / "i386-61pae-m1024")
    else:
        with pytest.raises(ValueError, match=f"{lacking}: missing; a recorded boot has zoneinfo"):
            boot_folder(folder / "i386-61pae-m1024")


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
def test_zoneinfo_cut_short(share, folder):
    file = folder / "numa-2g+2g-c2" / "zoneinfo"
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: int(len(text) * share)], encoding="utf-8")
    try:
        wrong = failures(play_boot(boot_folder(folder / "numa-2g+2g-c2")))
    except ValueError as error:
        assert "numa-2g" in str(error)
    else:  # cut between two nodes; the log says that memory is missing
        assert any("by the log" in said for _, said in wrong)


def test_files_that_are_no_text(folder):
    for name in ("zoneinfo", "sys_vm", "dmesg"):
        (folder / "numa-2g+2g-c2" / name).write_bytes(bytes(range(256)) * 40)
        with pytest.raises(ValueError, match="numa-2g"):
            play_boot(boot_folder(folder / "numa-2g+2g-c2"))


def hostile():
    zone = {"zones", "steps", "sys_vm", "pcp"}
    return [
        ("managed", -1), ("managed", 1 << 41), ("managed", "x"), ("managed", True), ("node", 5000),
        ("zone", "Nowhere"), ("zone", None), ("protection", [1]), ("protection", [0] * 9),
        ("protection", None), ("protection", [0, -1, 0, 0, 0]), ("pcp", None), ("pcp", [{}]),
        ("pcp", [{"high": 1}]), ("min", None), ("spanned", 1.5), ("start_pfn", -4), ("boost", "1"),
        *((key, value) for key in sorted(zone - {"pcp"}) for value in (3, [3], {"a": 1}, [[]])),
    ]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), hostile(), ids=str)
def test_hostile_values_end_in_a_sentence(key, value):
    boot = copy.deepcopy(BOOTS["m256-c1"])
    (boot if key in boot else boot["zones"][0])[key] = value
    with pytest.raises(ValueError, match=r"^boot: "):
        record(boot)


@pytest.mark.parametrize(
    "written", ["min_free_kbytes:-1", "nothing:1", "min_free_kbytes", "min_free_kbytes:1+2", ":::"]
)
def test_hostile_steps_end_in_a_sentence(written):
    boot = copy.deepcopy(BOOTS["steps-256m"])
    boot["steps"][0]["set"] = written
    with pytest.raises(ValueError, match=r"vm\.|give NAME:VALUE"):
        play_boot(record(boot))


def test_steps_of_another_machine():
    boot = copy.deepcopy(BOOTS["steps-256m"])
    boot["steps"][0]["zones"] = copy.deepcopy(BOOTS["numa-2g+2g-c2"]["zones"])
    with pytest.raises(ValueError, match="boot/step1: has other zones than the boot"):
        record(boot)


def test_two_zones_of_one_name():
    boot = copy.deepcopy(BOOTS["m256-c1"])
    boot["zones"].append(boot["zones"][0])
    with pytest.raises(ValueError, match="not every node has every zone once"):
        record(boot)


def test_golden_file_is_what_json_says():
    assert json.loads(json.dumps(BOOTS)) == BOOTS
