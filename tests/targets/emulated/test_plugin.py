"""What the plugin takes instructions for: without an emulator, compiled with functions of QEMU that do nothing."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from edgelstm.targets.emulated.userland import PLUGIN_SOURCE, compile_plugin

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")

# Words as GNU as 2.40 assembles them; of T32 as they lie in memory, the first half in the lower bits.
A64 = {
    "multiply_adds": {
        "fmla v0.4s, v1.4s, v2.4s": 0x4E22CC20,
        "fmls v0.2d, v1.2d, v2.2d": 0x4EE2CC20,
        "fmla v31.2s, v30.2s, v29.s[3]": 0x0FBD1BDF,
        "fmls v0.2d, v1.2d, v2.d[1]": 0x4FC25820,
        "fmla s0, s1, v2.s[1]": 0x5FA21020,
        "fmla v0.8h, v1.8h, v2.8h": 0x4E420C20,
        "fmla v0.8h, v1.8h, v2.h[7]": 0x4F321820,
        "fmadd s0, s1, s2, s3": 0x1F020C20,
        "fnmsub d0, d1, d2, d3": 0x1F628C20,
        "mla v0.4s, v1.4s, v2.4s": 0x4EA29420,
        "mls v0.8h, v1.8h, v2.h[3]": 0x6F724020,
        "mla v0.16b, v1.16b, v2.16b": 0x4E229420,
        "smlal v0.4s, v1.4h, v2.4h": 0x0E628020,
        "umlsl2 v0.8h, v1.16b, v2.16b": 0x6E22A020,
        "smlal2 v0.4s, v1.8h, v2.h[5]": 0x4F522820,
        "sqdmlal v0.4s, v1.4h, v2.4h": 0x0E629020,
        "sqdmlsl v0.2d, v1.2s, v2.s[1]": 0x0FA27020,
        "sdot v0.4s, v1.16b, v2.16b": 0x4E829420,
        "udot v0.4s, v1.16b, v2.4b[2]": 0x6F82E820,
    },
    "simd": {
        "fmul v0.4s, v1.4s, v2.4s": 0x6E22DC20,
        "fmul v0.4s, v1.4s, v2.s[0]": 0x4F829020,
        "fadd v0.4s, v1.4s, v2.4s": 0x4E22D420,
        "fadd s0, s1, s2": 0x1E222820,
        "fmax v0.4s, v1.4s, v2.4s": 0x4E22F420,
        "mul v0.4s, v1.4s, v2.4s": 0x4EA29C20,
        "smull v0.4s, v1.4h, v2.4h": 0x0E62C020,
        "sqdmull v0.4s, v1.4h, v2.4h": 0x0E62D020,
        "sqrdmulh v0.8h, v1.8h, v2.8h": 0x6E62B420,
        "smull v0.4s, v1.4h, v2.h[1]": 0x0F52A020,
        "sqdmulh v0.8h, v1.8h, v2.h[1]": 0x4F52C020,
        "saddlp v0.4s, v1.8h": 0x4E602820,
        "sadalp v0.4s, v1.8h": 0x4E606820,
        "add v0.4s, v1.4s, v2.4s": 0x4EA28420,
        "addv s0, v1.4s": 0x4EB1B820,
        "fmov x0, d1": 0x9E660020,
        "scvtf s0, w1": 0x1E220020,
        "dup v0.4s, w1": 0x4E040C20,
        "ext v0.16b, v1.16b, v2.16b, #4": 0x6E022020,
        "tbl v0.16b, {v1.16b}, v2.16b": 0x4E020020,
        "sshr v0.4s, v1.4s, #3": 0x4F3D0420,
        "movi v0.4s, #0x1": 0x4F000420,
    },
    "other": {
        "ldr q0, [x1]": 0x3DC00020,
        "ldp q0, q1, [x2], #32": 0xACC10440,
        "ld1 {v0.4s-v3.4s}, [x1]": 0x4C402820,
        "str s0, [x1, x2, lsl #2]": 0xBC227820,
        "ldr x0, [x1]": 0xF9400020,
        "madd x0, x1, x2, x3": 0x9B020C20,
        "add x0, x1, #0x4": 0x91001020,
        "add x0, x1, x2": 0x8B020020,
        "b.ne c4 <.text+0xc4>  // b.any": 0x54000001,
        "ret ": 0xD65F03C0,
        "svc #0x0": 0xD4000001,
        "mrs x0, tpidr_el0": 0xD53BD040,
    },
}
A32 = {
    "multiply_adds": {
        "vmla.f32 q8, q9, q10": 0xF2420DF4,
        "vmls.f32 d0, d1, d2": 0xF2210D12,
        "vfma.f32 q0, q1, q2": 0xF2020C54,
        "vfms.f32 q13, q14, q15": 0xF26CACFE,
        "vmla.i32 q0, q1, q2": 0xF2220944,
        "vmls.i8 d0, d1, d2": 0xF3010902,
        "vmla.f32 q0, q1, d2[1]": 0xF3A20162,
        "vmls.i16 q0, q1, d2[1]": 0xF392044A,
        "vmlal.s16 q0, d2, d3": 0xF2920803,
        "vmlsl.u8 q0, d2, d3": 0xF3820A03,
        "vmlal.s32 q0, d2, d3[1]": 0xF2A20263,
        "vqdmlal.s16 q0, d2, d3": 0xF2920903,
        "vqdmlsl.s32 q0, d2, d3[0]": 0xF2A20743,
        "vmla.f32 s0, s1, s2": 0xEE000A81,
        "vmls.f64 d0, d1, d2": 0xEE010B42,
        "vnmla.f32 s0, s1, s2": 0xEE100AC1,
        "vfma.f32 s0, s1, s2": 0xEEA00A81,
        "vfnms.f64 d16, d17, d18": 0xEED10BA2,
        "vmlane.f32 s0, s1, s2": 0x1E000A81,
    },
    "simd": {
        "vmul.f32 q0, q1, q2": 0xF3020D54,
        "vmul.f32 q0, q1, d2[1]": 0xF3A20962,
        "vmull.s16 q0, d2, d3": 0xF2920C03,
        "vmull.s16 q0, d2, d3[1]": 0xF2920A4B,
        "vqdmull.s16 q0, d2, d3": 0xF2920D03,
        "vqdmulh.s16 q0, q1, q2": 0xF2120B44,
        "vadd.f32 q0, q1, q2": 0xF2020D44,
        "vadd.f32 s0, s1, s2": 0xEE300A81,
        "vdiv.f32 s0, s1, s2": 0xEE800A81,
        "vsqrt.f64 d0, d1": 0xEEB10BC1,
        "vadd.i32 q0, q1, q2": 0xF2220844,
        "vaddl.s16 q0, d2, d3": 0xF2920003,
        "vext.8 q0, q1, q2, #4": 0xF2B20444,
        "vtbl.8 d0, {d1}, d2": 0xF3B10802,
        "vmax.f32 q0, q1, q2": 0xF2020F44,
        "vdup.32 q0, r1": 0xEEA01B10,
        "vmov r0, r1, d0": 0xEC510B10,
        "vmov s0, r0": 0xEE000A10,
        "vmrs APSR_nzcv, fpscr": 0xEEF1FA10,
        "vcvt.f32.s32 q0, q1": 0xF3BB0642,
        "vshr.s32 q0, q1, #3": 0xF2BD0052,
        "vmov.i32 q0, #1": 0xF2800051,
    },
    "other": {
        "vldr d0, [r0]": 0xED900B00,
        "vldmia r0!, {d0-d3}": 0xECB00B08,
        "vpush {d8-d9}": 0xED2D8B04,
        "vld1.32 {d0-d3}, [r0]!": 0xF420028D,
        "vst1.32 {d0[1]}, [r0]": 0xF480088F,
        "ldr r0, [r1]": 0xE5910000,
        "mla r0, r1, r2, r3": 0xE0203291,
        "smlabb r0, r1, r2, r3": 0xE1003281,
        "add r0, r1, r2": 0xE0810002,
        "ldm r8, {r9, sl}": 0xE8980600,
        "svc 0x00000000": 0xEF000000,
        "ldr pc, [ip, #8]!": 0xE5BCF008,
    },
}
T32 = {
    "multiply_adds": {
        "vmla.f32 q8, q9, q10": 0x0DF4EF42,
        "vmls.f32 d0, d1, d2": 0x0D12EF21,
        "vfma.f32 q0, q1, q2": 0x0C54EF02,
        "vfms.f32 q13, q14, q15": 0xACFEEF6C,
        "vmla.i32 q0, q1, q2": 0x0944EF22,
        "vmls.i8 d0, d1, d2": 0x0902FF01,
        "vmla.f32 q0, q1, d2[1]": 0x0162FFA2,
        "vmls.i16 q0, q1, d2[1]": 0x044AFF92,
        "vmlal.s16 q0, d2, d3": 0x0803EF92,
        "vmlsl.u8 q0, d2, d3": 0x0A03FF82,
        "vmlal.s32 q0, d2, d3[1]": 0x0263EFA2,
        "vqdmlal.s16 q0, d2, d3": 0x0903EF92,
        "vqdmlsl.s32 q0, d2, d3[0]": 0x0743EFA2,
        "vmla.f32 s0, s1, s2": 0x0A81EE00,
        "vmls.f64 d0, d1, d2": 0x0B42EE01,
        "vnmla.f32 s0, s1, s2": 0x0AC1EE10,
        "vfma.f32 s0, s1, s2": 0x0A81EEA0,
        "vfnms.f64 d16, d17, d18": 0x0BA2EED1,
    },
    "simd": {
        "vmul.f32 q0, q1, q2": 0x0D54FF02,
        "vmul.f32 q0, q1, d2[1]": 0x0962FFA2,
        "vmull.s16 q0, d2, d3": 0x0C03EF92,
        "vmull.s16 q0, d2, d3[1]": 0x0A4BEF92,
        "vqdmull.s16 q0, d2, d3": 0x0D03EF92,
        "vqdmulh.s16 q0, q1, q2": 0x0B44EF12,
        "vadd.f32 q0, q1, q2": 0x0D44EF02,
        "vadd.f32 s0, s1, s2": 0x0A81EE30,
        "vdiv.f32 s0, s1, s2": 0x0A81EE80,
        "vsqrt.f64 d0, d1": 0x0BC1EEB1,
        "vadd.i32 q0, q1, q2": 0x0844EF22,
        "vaddl.s16 q0, d2, d3": 0x0003EF92,
        "vext.8 q0, q1, q2, #4": 0x0444EFB2,
        "vtbl.8 d0, {d1}, d2": 0x0802FFB1,
        "vmax.f32 q0, q1, q2": 0x0F44EF02,
        "vdup.32 q0, r1": 0x1B10EEA0,
        "vmov r0, r1, d0": 0x0B10EC51,
        "vmov s0, r0": 0x0A10EE00,
        "vmrs APSR_nzcv, fpscr": 0xFA10EEF1,
        "vcvt.f32.s32 q0, q1": 0x0642FFBB,
        "vshr.s32 q0, q1, #3": 0x0052EFBD,
        "vmov.i32 q0, #1": 0x0051EF80,
    },
    "other": {
        "vldr d0, [r0]": 0x0B00ED90,
        "vldmia r0!, {d0-d3}": 0x0B08ECB0,
        "vpush {d8-d9}": 0x8B04ED2D,
        "vld1.32 {d0-d3}, [r0]!": 0x028DF920,
        "vst1.32 {d0[1]}, [r0]": 0x088FF980,
        "ldr r0, [r1, #0]": 0x6808,
        "mla r0, r1, r2, r3": 0x3002FB01,
        "smlabb r0, r1, r2, r3": 0x3002FB11,
        "add.w r0, r1, r2": 0x0002EB01,
        "ldmia.w r8, {r9, sl}": 0x0600E898,
    },
}

STUBS = """
#include INSN
static int resets;
struct qemu_plugin_insn { uint32_t word; size_t size; };
struct qemu_plugin_tb { struct qemu_plugin_insn *instructions; size_t count; };
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn) { return insn->size; }
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn) { return &insn->word; }
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb) { return tb->count; }
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i) {
  return &tb->instructions[i];
}
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op, void *counter, uint64_t amount) {
  (void)tb, (void)op;
  *(uint64_t *)counter += amount;
}
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id i, translate_callback c) { (void)i, (void)c; }
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *i, memory_callback c, int f, int w, void *d) {
  (void)i, (void)c, (void)f, (void)w, (void)d;
}
void qemu_plugin_register_vcpu_syscall_cb(plugin_id i, syscall_callback c) { (void)i, (void)c; }
void qemu_plugin_register_atexit_cb(plugin_id i, exit_callback c, void *d) { (void)i, (void)c, (void)d; }
void qemu_plugin_reset(plugin_id i, reset_callback c) { (void)i, (void)c; resets++; }
bool qemu_plugin_mem_is_store(memory_info info) { return info & 1; }
unsigned qemu_plugin_mem_size_shift(memory_info info) { return info >> 1; }

/* Executes one block and writes the counters. */
EXPORT void count_block(bool of_64_bit, const uint32_t *words, const size_t *sizes, size_t count, uint64_t *result) {
  struct qemu_plugin_insn instructions[64];
  for (size_t i = 0; i < count; i++) instructions[i] = (struct qemu_plugin_insn){words[i], sizes[i]};
  struct qemu_plugin_tb block = {instructions, count};
  is_64_bit = of_64_bit;
  memset(counters, 0, sizeof counters);
  on_translate(0, &block);
  memcpy(result, counters, sizeof counters);
}

EXPORT void count_access(unsigned info, uint64_t *result) {
  memset(counters, 0, sizeof counters);
  on_memory(0, info, 0, NULL);
  memcpy(result, counters, sizeof counters);
}

EXPORT int resets_after_marks(bool wanted, int marks) {
  resets = 0, output = fopen("/dev/null", "w"), wants_memory = wanted, counts_memory = false;
  for (int k = 0; k < marks; k++) {
    on_syscall(0, 0, MARK - 1, 0, 0, 0, 0, 0, 0, 0, 0);
    on_syscall(0, 0, MARK, k, 0, 0, 0, 0, 0, 0, 0);
  }
  return counts_memory == (resets == 1) ? resets : -1;
}

EXPORT int install(const char *architecture, int min, int cur, bool system) {
  qemu_info info = {architecture, {min, cur}, system, {{0, 0}}};
  return qemu_plugin_install(0, &info, 0, NULL);
}
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "stubs.c").write_text(STUBS, encoding="ascii")
    library = folder / "plugin.so"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f'-DINSN="{PLUGIN_SOURCE}"']
    subprocess.run(["gcc", *flags, "-o", library, folder / "stubs.c"], check=True)
    return ctypes.CDLL(str(library))


def count(plugin: ctypes.CDLL, words: list[int], *, is_64_bit: bool, sizes: list[int] | None = None) -> dict[str, int]:
    result, number = (ctypes.c_uint64 * 7)(), len(words)
    sizes = sizes or [2 if word < 0x1_0000 and not is_64_bit else 4 for word in words]
    array = (ctypes.c_uint32 * number)(*words), (ctypes.c_size_t * number)(*sizes)
    plugin.count_block(is_64_bit, *array, ctypes.c_size_t(number), result)
    return dict(zip(("instructions", "simd", "multiply_adds"), result, strict=False))


@pytest.mark.parametrize("kind, text", [(kind, text) for kind in A64 for text in A64[kind]])
def test_a64_instructions_are_told_apart(plugin: ctypes.CDLL, kind: str, text: str) -> None:
    assert count(plugin, [A64[kind][text]], is_64_bit=True) == expected(kind, 1)


@pytest.mark.parametrize("kind, text", [(kind, text) for kind in A32 for text in A32[kind]])
def test_a32_instructions_are_told_apart(plugin: ctypes.CDLL, kind: str, text: str) -> None:
    assert count(plugin, [A32[kind][text], 0xE1A00000], is_64_bit=False) == expected(kind, 2)  # mov r0, r0


@pytest.mark.parametrize("kind, text", [(kind, text) for kind in T32 for text in T32[kind]])
def test_t32_instructions_are_told_apart(plugin: ctypes.CDLL, kind: str, text: str) -> None:
    words = [T32[kind][text]]
    assert count(plugin, words, is_64_bit=False) == expected(kind, 1)
    assert count(plugin, [*words, 0xBF00], is_64_bit=False, sizes=[4, 2]) == expected(kind, 2)


def expected(kind: str, instructions: int) -> dict[str, int]:
    return {
        "instructions": instructions,
        "simd": int(kind != "other"),
        "multiply_adds": int(kind == "multiply_adds"),
    }


@pytest.mark.parametrize("architecture", [A32, T32])
def test_a_block_is_added_up(plugin: ctypes.CDLL, architecture: dict[str, dict[str, int]]) -> None:
    words = [word for kind in architecture.values() for word in kind.values()]
    multiply_adds, simd = len(architecture["multiply_adds"]), len(architecture["simd"])
    assert count(plugin, words, is_64_bit=False) == {
        "instructions": len(words),
        "simd": simd + multiply_adds,
        "multiply_adds": multiply_adds,
    }


def test_accesses_are_counted_with_their_bytes(plugin: ctypes.CDLL) -> None:
    result = (ctypes.c_uint64 * 7)()
    plugin.count_access(0b111, result)  # a store of 2 ** 3 bytes, as the functions above encode it
    assert list(result)[3:] == [0, 1, 0, 8]
    plugin.count_access(0b100, result)  # a load of 2 ** 2 bytes
    assert list(result)[3:] == [1, 0, 4, 0]


def test_memory_is_counted_from_the_first_mark_on_if_at_all(plugin: ctypes.CDLL) -> None:
    assert [plugin.resets_after_marks(True, marks) for marks in (0, 1, 3)] == [0, 1, 1]
    assert plugin.resets_after_marks(False, 3) == 0


@pytest.mark.parametrize(
    "architecture, versions, system, status",
    [
        (b"aarch64", (0, 1), False, 0),
        (b"arm", (0, 1), False, 0),
        (b"aarch64", (2, 4), False, -1),
        (b"aarch64", (0, 0), False, -1),
        (b"x86_64", (0, 1), False, -1),
        (b"aarch64", (0, 1), True, -1),
    ],
)
def test_another_emulator_is_refused(
    plugin: ctypes.CDLL, architecture: bytes, versions: tuple[int, int], system: bool, status: int
) -> None:
    assert plugin.install(architecture, *versions, system) == status


def test_it_compiles_without_a_warning(tmp_path: Path) -> None:
    assert "gcc" in compile_plugin(tmp_path / "insn.so")
    exported = subprocess.run(
        ["nm", "-D", "--defined-only", tmp_path / "insn.so"], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in exported.stdout.splitlines()}
    assert names == {"qemu_plugin_version", "qemu_plugin_install"}
