"""Reading compiled programs: `benchmarks/hlo.py` on small ones."""

from hlo import estimated_cycles

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
