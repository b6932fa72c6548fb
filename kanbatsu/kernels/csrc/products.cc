// Every kernel for one instruction set. The build compiles this file once per set, with KANBATSU_ISA
// (its name) and KANBATSU_WIDTH (floats per register).
#include "element.h"
#include "grouped.h"
#include "grouped_gradients.h"
#include "lists.h"
#include "norm.h"
#include "rows.h"

#define NAME_OF(isa) #isa
#define QUOTED(isa) NAME_OF(isa)

namespace kanbatsu {
namespace KANBATSU_ISA {

extern const Kernels table;
const Kernels table = {
    QUOTED(KANBATSU_ISA),
    packed_product,
    packed_weight_gradient,
    grouped_product,
    grouped_input_gradient,
    grouped_weight_gradient,
    packed_vector,
    grouped_vector,
    normalise,
    normalise_gradient,
    norm_weight_gradient,
    batch_sum,
    to_tile,
    from_tile,
    shorts_lie_within,
    ints_lie_within,
};

}  // namespace KANBATSU_ISA
}  // namespace kanbatsu
