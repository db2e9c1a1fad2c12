"""Offers and instances as rows of JSON, with the provider's names and units."""

from decimal import Decimal
from typing import cast

from vastai_workflow.simulator.exchange import JsonObject
from vastai_workflow.simulator.hardware import GpuModel
from vastai_workflow.simulator.instances import Instance
from vastai_workflow.simulator.market import Ask, Machine
from vastai_workflow.simulator.world import World

UNUSED_PORT = 9
"""Shown as SSH port on loopback while nothing listens: the discard port, which refuses."""
RESERVED_DISCOUNT = Decimal("0.2")
STORED_COLUMNS = frozenset(
    {"id", "label", "actual_status", "intended_status", "cur_state", "next_state", "start_date", "end_date", "is_bid"}
    | {"gpu_name", "verification", "machine_id", "host_id", "image_uuid", "template_id", "template_hash_id"}
    | {"geolocation"}
)
"""The columns of the instance list that filters and orders may use; the others are computed."""
_VERICODES = {"verified": 1, "unverified": 0, "deverified": -1}


def driver_number(version: str) -> int:
    """A driver version as the service compares it: 535.86.05 is 535086005."""
    parts = [int(part) for part in version.split(".")]
    return parts[0] * 1_000_000 + parts[1] * 1_000 + parts[2]


def _machine_fields(machine: Machine, num_gpus: int) -> JsonObject:
    """What offers and instances both tell about the machine."""
    model: GpuModel = machine.model
    share = num_gpus / machine.num_gpus
    cpu_name, cores, ghz = machine.cpu
    driver, cuda = machine.driver
    return {
        "machine_id": machine.id,
        "host_id": machine.host_id,
        "bundle_id": machine.id * 3 + num_gpus,
        "hosting_type": 1 if model.datacenter else 0,
        "num_gpus": num_gpus,
        "gpu_name": model.name,
        "gpu_arch": "nvidia",
        "gpu_frac": share,
        "gpu_lanes": 16,
        "gpu_ram": model.ram,
        "gpu_mem_bw": model.mem_bw,
        "bw_nvlink": model.nvlink,
        "compute_cap": model.compute_cap,
        "cuda_max_good": cuda,
        "driver_version": driver,
        "total_flops": round(model.tflops * num_gpus, 2),
        "dlperf": round(model.dlperf * num_gpus, 2),
        "cpu_name": cpu_name,
        "cpu_arch": "amd64",
        "cpu_cores": cores,
        "cpu_cores_effective": round(cores * share, 1),
        "cpu_ghz": ghz,
        "cpu_ram": machine.ram_mb,
        "disk_name": "NVMe",
        "disk_bw": 2_800.0,
        "inet_up": machine.inet_up,
        "inet_down": machine.inet_down,
        "inet_up_cost": float(machine.traffic_cost),
        "inet_down_cost": float(machine.traffic_cost),
        "internet_up_cost_per_tb": float(machine.traffic_cost * 1000),
        "internet_down_cost_per_tb": float(machine.traffic_cost * 1000),
        "direct_port_count": 100,
        "pci_gen": 4.0,
        "pcie_bw": 24.0,
        "mobo_name": "H12SSL-i",
        "os_version": "22.04",
        "static_ip": True,
        "reliability2": machine.reliability,
        "verification": machine.verification,
        "geolocation": machine.place.geolocation,
        "external": False,
        "webpage": None,
        "logo": "/static/logos/vastai_small2.png",
        "credit_discount_max": 0.4,
        "vram_costperhour": float(machine.price / Decimal(model.ram)),
        "storage_cost": float(machine.storage_cost),
        "time_remaining": "",
        "time_remaining_isbid": "",
    }


def _prices(base: Decimal, disk: Decimal, flops: float, dlperf: float) -> JsonObject:
    total = base + disk
    discounted = total * (1 - RESERVED_DISCOUNT)
    parts = {
        "gpuCostPerHour": float(base),
        "diskHour": float(disk),
        "totalHour": float(total),
        "discountTotalHour": 0.0,
        "discountedTotalPerHour": float(total),
    }
    return {
        "dph_base": float(base),
        "dph_total": float(total),
        "discounted_dph_total": float(discounted),
        "storage_total_cost": float(disk),
        "dlperf_per_dphtotal": round(dlperf / float(total), 3),
        "flops_per_dphtotal": round(flops / float(total), 3),
        "score": round(dlperf / float(total) * 0.9, 2),
        "search": parts,
        "instance": dict(parts),
    }


def offer_row(world: World, ask: Ask, kind: str, allocated_gb: Decimal) -> JsonObject:
    """An ask as search shows it; `kind` changes the price shown, `allocated_gb` is the disk in the price."""
    machine = ask.machine
    row = _machine_fields(machine, ask.num_gpus)
    base = machine.lowest_bid(ask.num_gpus) if kind == "bid" else machine.base_price(ask.num_gpus)
    if kind == "reserved":
        base *= 1 - RESERVED_DISCOUNT
    row |= _prices(base, machine.storage_price(allocated_gb), row["total_flops"], row["dlperf"])
    row |= {
        "id": ask.id,
        "ask_contract_id": ask.id,
        "bundled_results": None,
        "cluster_id": None,
        "gpu_ids": list(ask.gpu_ids),
        "gpu_total_ram": machine.model.ram * ask.num_gpus,
        "gpu_max_power": machine.model.power,
        "gpu_max_temp": 90,
        "gpu_display_active": False,
        "driver_vers": driver_number(row["driver_version"]),
        "has_avx": 1,
        "disk_space": machine.disk_share(ask.num_gpus),
        "dph_total_adj": row["dph_total"],
        "discounted_hourly": 0.0,
        "discount_rate": 0.0,
        "min_bid": float(machine.lowest_bid(ask.num_gpus)),
        "platform_fee": 0.0,
        "is_bid": kind == "bid",
        "rentable": machine.rentable and not ask.rented,
        "rented": ask.rented,
        "vms_enabled": False,
        "is_vm_deverified": False,
        "reliability": machine.reliability,
        "reliability_mult": machine.reliability,
        "expected_reliability": machine.reliability,
        "vericode": _VERICODES[machine.verification],
        "geolocode": machine.place.geocode,
        "public_ipaddr": f"{machine.address} ",
        "start_date": machine.listed_at,
        "end_date": machine.end_date,
        "duration": max(machine.end_date - world.time, 0.0),
        "resource_type": "gpu",
        "avail_vol_ask_id": machine.id * 10 + 1,
        "avail_vol_dph": float(machine.storage_price(Decimal(15))),
        "avail_vol_size": machine.disk_gb / 2,
        "nw_disk_min_bw": None,
        "nw_disk_avg_bw": None,
        "nw_disk_max_bw": None,
        "hostname": f"host{machine.host_id}",
        "rn": 1,
    }
    return row


def instance_row(world: World, instance: Instance) -> JsonObject:
    """An instance as the list and the single read show it."""
    machine, gpus = instance.machine, len(instance.gpu_ids)
    row = _machine_fields(machine, gpus)
    row |= _prices(instance.dph_base, machine.storage_price(instance.disk_gb), row["total_flops"], row["dlperf"])
    template = instance.template or {}
    running = instance.actual == "running"
    row |= {
        "id": instance.id,
        "label": instance.label,
        "actual_status": instance.actual,
        "intended_status": instance.intended,
        "cur_state": instance.cur,
        "next_state": instance.next,
        "status_msg": instance.status_msg,
        "image_uuid": instance.image,
        "image_args": instance.args,
        "image_runtype": instance.runtype,
        "extra_env": [[name, value] for name, value in instance.env.items()],
        "onstart": instance.onstart or "",
        "jupyter_token": instance.jupyter_token,
        "template_id": template.get("id"),
        "template_hash_id": template.get("hash_id"),
        "template_name": template.get("name"),
        "volume_info": instance.volume_info,
        "start_date": instance.created_at,
        "end_date": instance.end_date,
        "duration": max(instance.end_date - world.time, 0.0),
        "uptime_mins": (world.time - instance.running_since) / 60 if instance.running_since else None,
        "client_run_time": 1.1,
        "host_run_time": 2_592_000.0,
        "gpu_totalram": machine.model.ram * gpus,
        "gpu_util": 0.0 if running else None,
        "gpu_temp": 39.0 if running else None,
        "cpu_util": 0.0,
        "mem_limit": machine.ram_mb / 1000 if running else None,
        "mem_usage": 0.5 if running else None,
        "vmem_usage": 0.1 if running else None,
        "disk_space": float(instance.disk_gb),
        "disk_usage": 1.2 if running else -1.0,
        "disk_util": 0.03 if running else -1.0,
        "is_bid": instance.is_bid,
        "min_bid": float(machine.lowest_bid(gpus)),
        "rentable": False,
        "credit_balance": None,
        "credit_discount": None,
        "country_code": machine.place.code,
    }
    row |= _addresses(world, instance)
    row |= instance.disguise
    return row


def _addresses(world: World, instance: Instance) -> JsonObject:
    """Where SSH and the mapped ports are reached; ports only while running."""
    machine = instance.machine
    row: JsonObject = {
        "static_ip": True,
        "local_ipaddrs": "10.0.0.5 172.17.0.1 \n",
        "direct_port_start": -1,
        "direct_port_end": -1,
        "machine_dir_ssh_port": machine.first_port,
        "ssh_idx": str(instance.id % 9 + 1),
    }
    direct, proxy = _ssh_ports(world, instance)
    if world.loopback:
        row |= {"public_ipaddr": "127.0.0.1 ", "ssh_host": "localhost"}
    else:
        row |= {"public_ipaddr": f"{machine.address} ", "ssh_host": f"192.0.2.{instance.id % 9 + 1}"}
    row["ssh_port"] = proxy - 1 if instance.is_jupyter and world.switches.proxy_port_plus_one else proxy
    if instance.actual == "running" and direct is not None:
        row["ports"] = _mapped_ports(instance, direct)
        row["direct_port_start"] = machine.first_port
        row["direct_port_end"] = machine.first_port + 99
    return row


def _ssh_ports(world: World, instance: Instance) -> tuple[int | None, int]:
    """The direct port, if any is known, and the proxy's."""
    if not world.loopback:
        return instance.first_port, 10_000 + instance.id % 20_000
    if instance.address is None:
        return None, UNUSED_PORT
    return instance.address.direct_port, instance.address.proxy_port


def _mapped_ports(instance: Instance, direct: int) -> JsonObject:
    ports: JsonObject = {}
    if instance.has_direct_ssh:
        ports["22/tcp"] = [{"HostIp": "0.0.0.0", "HostPort": str(direct)}]  # noqa: S104 - as the provider shows it
    wanted = [name.removeprefix("-p ") for name in instance.env if name.startswith("-p ")]
    for number, mapping in enumerate(wanted, start=1):
        inner, _, protocol = mapping.rpartition(":")[2].partition("/")
        outer = int(inner) if inner.isdigit() and int(inner) >= 70_000 else instance.first_port + number  # noqa: PLR2004 - identity-mapped from here on
        ports[f"{inner}/{protocol or 'tcp'}"] = [{"HostIp": "0.0.0.0", "HostPort": str(outer)}]  # noqa: S104 - as above
    return ports


def columns(row: JsonObject, wanted: object) -> JsonObject:
    """The wanted columns of a row; unknown ones are null, `*` is all."""
    names = cast("list[object]", wanted) if isinstance(wanted, list) else ["*"]
    if "*" in names:
        return row
    return {str(name): row.get(str(name)) for name in names}
