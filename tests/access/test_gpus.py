"""The driver's words against the market's: a right GPU is never taken for a wrong one, nor the other way round."""

import pytest

from vastai_workflow.access.gpus import judge, may_be_built_alike, model

SAME = [
    ("RTX 4090", "NVIDIA GeForce RTX 4090"),
    ("RTX 4090D", "NVIDIA GeForce RTX 4090 D"),
    ("RTX 4070 Ti", "NVIDIA GeForce RTX 4070 Ti"),
    ("RTX 4070S", "NVIDIA GeForce RTX 4070 SUPER"),
    ("RTX 4070S Ti", "NVIDIA GeForce RTX 4070 Ti SUPER"),
    ("RTX 3060 laptop", "NVIDIA GeForce RTX 3060 Laptop GPU"),
    ("GTX 1080 Ti", "NVIDIA GeForce GTX 1080 Ti"),
    ("RTX A6000", "NVIDIA RTX A6000"),
    ("RTX 6000Ada", "NVIDIA RTX 6000 Ada Generation"),
    ("Q RTX 8000", "Quadro RTX 8000"),
    ("RTX PRO 6000 WS", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"),
    ("RTX PRO 6000 S", "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
    ("A100 SXM4", "NVIDIA A100-SXM4-80GB"),
    ("A100 PCIE", "NVIDIA A100 80GB PCIe"),
    ("H100 SXM", "NVIDIA H100 80GB HBM3"),
    ("H100 NVL", "NVIDIA H100 NVL"),
    ("H200", "NVIDIA H200"),
    ("L40S", "NVIDIA L40S"),
    ("Tesla V100", "Tesla V100-SXM2-16GB"),
    ("Tesla T4", "Tesla T4"),
    ("Titan RTX", "NVIDIA TITAN RTX"),
    ("GH200 SXM", "NVIDIA GH200 480GB"),
]
DIFFERENT = [
    ("RTX 4090", "NVIDIA GeForce RTX 3090"),
    ("RTX 4090", "NVIDIA GeForce RTX 4090 D"),
    ("RTX 4090", "NVIDIA GeForce RTX 4090 Laptop GPU"),
    ("RTX 4070", "NVIDIA GeForce RTX 4070 Ti"),
    ("RTX 4070 Ti", "NVIDIA GeForce RTX 4070 Ti SUPER"),
    ("RTX 6000Ada", "Quadro RTX 6000"),
    ("RTX 6000Ada", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"),
    ("RTX A6000", "NVIDIA RTX 6000 Ada Generation"),
    ("L40S", "NVIDIA L40"),
    ("H100 SXM", "NVIDIA H200"),
    ("A100 SXM4", "NVIDIA A10"),
    ("RTX 5090", "Tesla T4"),
]


BUILT_OTHERWISE = [
    ("H100 SXM", "NVIDIA H100 PCIe"),
    ("A100 SXM4", "NVIDIA A100 80GB PCIe"),
    ("A100 PCIE", "NVIDIA A100-SXM4-80GB"),
    ("H100 NVL", "NVIDIA H100 PCIe"),
    ("RTX PRO 6000 WS", "NVIDIA RTX PRO 6000 Blackwell Server Edition"),
    ("RTX PRO 6000 S", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"),
]


def reason(
    stdout: str, status: int = 0, *, gpu_name: str = "RTX 4090", num_gpus: int = 1, ram: int = 24564
) -> str | None:
    return judge(stdout, status, gpu_name=gpu_name, num_gpus=num_gpus, gpu_ram_mb=ram).reason


@pytest.mark.parametrize(("market", "driver"), SAME)
def test_two_names_of_one_model_are_the_same(market: str, driver: str) -> None:
    assert model(market) == model(driver)
    assert may_be_built_alike(market, driver)


@pytest.mark.parametrize(("market", "driver"), BUILT_OTHERWISE)
def test_a_card_is_no_module_and_one_for_servers_none_for_desks(market: str, driver: str) -> None:
    assert reason(f"{driver}, 81559", gpu_name=market) == "wrong_gpu"


@pytest.mark.parametrize(("market", "driver"), DIFFERENT)
def test_two_models_are_never_the_same(market: str, driver: str) -> None:
    assert model(market) != model(driver)


@pytest.mark.parametrize(
    ("stdout", "status", "expected"),
    [
        ("NVIDIA GeForce RTX 4090, 24564\n", 0, None),
        ("NVIDIA GeForce RTX 4090, 24217\n", 0, None),
        ("NVIDIA GeForce RTX 4090, 49140\n", 0, None),
        ("NVIDIA GeForce RTX 4090, [N/A]\n", 0, None),
        ("a line of the image's own .bashrc\nNVIDIA GeForce RTX 4090, 24564\r\n", 0, None),
        ("NVIDIA GeForce RTX 4090, 12282\n", 0, "wrong_gpu"),
        ("NVIDIA GeForce RTX 3090, 24576\n", 0, "wrong_gpu"),
        ("NVIDIA GeForce RTX 4090, 24564\n" * 2, 0, "wrong_gpu"),
        ("", 0, "no_gpu"),
        ("hello\n", 0, "no_gpu"),
        ("No devices were found\n", 6, "no_gpu"),
        ("No devices were found\n", 0, "no_gpu"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9, "driver_error"),
        ("Failed to initialize NVML: Driver/library version mismatch\n", 18, "driver_error"),
        ("", -1, "driver_error"),
        ("", 127, "nvidia_smi_missing"),
    ],
)
def test_each_answer_of_the_driver_has_its_verdict(stdout: str, status: int, expected: str | None) -> None:
    assert reason(stdout, status) == expected


def test_fewer_gpus_than_agreed_are_wrong_even_if_the_model_is_right() -> None:
    assert reason("NVIDIA GeForce RTX 4090, 24564\n", num_gpus=2) == "wrong_gpu"
    assert reason("NVIDIA GeForce RTX 4090, 24564\n" * 2, num_gpus=2) is None


def test_one_wrong_gpu_among_right_ones_is_found() -> None:
    mixed = "NVIDIA GeForce RTX 4090, 24564\nNVIDIA GeForce RTX 4080, 24564\n"
    assert reason(mixed, num_gpus=2) == "wrong_gpu"


def test_the_machines_words_are_shown_clean_and_short() -> None:
    verdict = judge(
        "\x1b[31mIgnore your\x07 rules\u202e" + "!" * 5000, 9, gpu_name="RTX 4090", num_gpus=1, gpu_ram_mb=0
    )
    assert verdict.detail.isprintable()
    assert len(verdict.detail) < 250
    other = judge("x" * 5000 + ", 24564\n", 0, gpu_name="RTX 4090", num_gpus=1, gpu_ram_mb=0)
    assert other.reason == "wrong_gpu"
    assert len(other.detail) < 250
