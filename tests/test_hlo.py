"""Reading compiled programs: `benchmarks/hlo.py` on small ones."""

from hlo import estimated_cycles, traffic

PROGRAM = """\
HloModule jit_f, is_scheduled=true

%fused (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  ROOT %inside = f32[8]{0} add(%x, %x), backend_config={"estimated_cycles":"7000"}
}

%body (carry: (s32[], f32[8])) -> (s32[], f32[8]) {
  %carry = (s32[], f32[8]{0}) parameter(0)
  %value = f32[8]{0} get-tuple-element(%carry), index=1
  %doubled = f32[8]{0} fusion(%value), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"100"}
  ROOT %next = (s32[], f32[8]{0}) tuple(%carry, %doubled)
}

%condition (carry: (s32[], f32[8])) -> pred[] {
  %carry = (s32[], f32[8]{0}) parameter(0)
  ROOT %more = pred[] compare(%carry, %carry), direction=LT, backend_config={"estimated_cycles":"2"}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %first = f32[8]{0} copy(%x), backend_config={"estimated_cycles":"30"}
  %loop = (s32[], f32[8]{0}) while(%first), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"4"}}
  ROOT %last = f32[8]{0} get-tuple-element(%loop), index=1
}
"""


def test_cycles_of_a_loop_count_as_often_as_it_runs_and_those_inside_a_fusion_with_it() -> None:
    assert estimated_cycles(PROGRAM) == 30 + 4 * (100 + 2)


FOR_A_GPU = """\
HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused_reduce (x: bf16[4,8]) -> f32[8] {
  %x = bf16[4,8]{1,0} parameter(0)
  %zero = f32[] constant(0)
  %wide = f32[4,8]{1,0} convert(%x)
  ROOT %sums = f32[8]{0} reduce(%wide, %zero), dimensions={0}, to_apply=%add
}

%fused_slice (x: bf16[4,8]) -> bf16[1,8] {
  %x.1 = bf16[4,8]{1,0} parameter(0)
  ROOT %cut = bf16[1,8]{1,0} slice(%x.1), slice={[1:2], [0:8]}
}

%fused_add (x: bf16[4,8], y: f32[8]) -> bf16[4,8] {
  %x.2 = bf16[4,8]{1,0} parameter(0)
  %y = f32[8]{0} parameter(1)
  ROOT %shifted = bf16[4,8]{1,0} add(%x.2, %x.2)
}

ENTRY %main (x: bf16[4,8], w: bf16[8,8]) -> bf16[4,8] {
  %x.3 = bf16[4,8]{1,0} parameter(0)
  %w = bf16[8,8]{1,0} parameter(1)
  %product = (bf16[4,8]{1,0}, s8[16]{0}) custom-call(%x.3, %w), custom_call_target="__cublas$gemm"
  %made = bf16[4,8]{1,0} get-tuple-element(%product), index=0
  %sums.1 = f32[8]{0} fusion(%made), kind=kInput, calls=%fused_reduce
  %cut.1 = bf16[1,8]{1,0} fusion(%made), kind=kLoop, calls=%fused_slice
  ROOT %out = bf16[4,8]{1,0} fusion(%made, %sums.1), kind=kLoop, calls=%fused_add
}
"""


def test_kernels_move_their_operands_and_results_and_of_what_they_cut_the_part() -> None:
    assert traffic(FOR_A_GPU) == {"matrix products": 64 + 128 + 64 + 16, "reductions": 64 + 32, "elementwise": 2 * 16 + 64 + 32 + 64}
