"""Nonlinear cells, by name."""

from jaxseq.cells.antisymmetric import AntisymmetricRNN, GatedAntisymmetricRNN
from jaxseq.cells.atr import ATR
from jaxseq.cells.base import Cell
from jaxseq.cells.block_lstm import BlockLSTM
from jaxseq.cells.br import BR, NBR
from jaxseq.cells.cfn import CFN
from jaxseq.cells.cornn import CoRNN
from jaxseq.cells.drop_connect import drop_connect
from jaxseq.cells.elman import Elman
from jaxseq.cells.elstm import ELSTM
from jaxseq.cells.fast_rnn import FastGRNN, FastRNN
from jaxseq.cells.gru import GRU, FlaxGRU
from jaxseq.cells.indrnn import IndRNN
from jaxseq.cells.intersection_rnn import IntersectionRNN
from jaxseq.cells.janet import JANET
from jaxseq.cells.lem import LEM, StaleLEM
from jaxseq.cells.light_ru import LightRU
from jaxseq.cells.ligru import LiGRU
from jaxseq.cells.lstm import LSTM
from jaxseq.cells.mclstm import MCLSTM
from jaxseq.cells.mgu import MGU
from jaxseq.cells.min_gru import MinGRU
from jaxseq.cells.min_lstm import MinLSTM
from jaxseq.cells.minimal_rnn import MinimalRNN
from jaxseq.cells.miru import MiRU1, MiRU2
from jaxseq.cells.multiplicative_lstm import MultiplicativeLSTM
from jaxseq.cells.mut import MUT1, MUT2, MUT3
from jaxseq.cells.nas import NAS
from jaxseq.cells.original_lstm import OriginalLSTM
from jaxseq.cells.paragru import ParaGRU
from jaxseq.cells.paralstm import ParaLSTM
from jaxseq.cells.peephole_lstm import PeepholeLSTM
from jaxseq.cells.qlstm import QLSTM
from jaxseq.cells.ran import RAN
from jaxseq.cells.recurrent import RecurrentCell
from jaxseq.cells.res_lstm import ResLSTM
from jaxseq.cells.scrn import SCRN, OutputSCRN
from jaxseq.cells.sgrn import SGRN
from jaxseq.cells.sgu import DSGU, SGU
from jaxseq.cells.slstm import SLSTM
from jaxseq.cells.star import STAR
from jaxseq.cells.tau_gru import TauGRU
from jaxseq.cells.trnn import TGRU, TLSTM, TRNN
from jaxseq.cells.ug_rnn import UGRNN
from jaxseq.cells.unicornn import UnICORNN
from jaxseq.cells.wmclstm import WMCLSTM
from jaxseq.solvers.heads import Dense, Heads
from jaxseq.solvers.structure import Block, Diagonal

CELLS: dict[str, type[Cell]] = {
    "antisymmetric_rnn": AntisymmetricRNN,
    "atr": ATR,
    "block_lstm": BlockLSTM,
    "br": BR,
    "cfn": CFN,
    "cornn": CoRNN,
    "dsgu": DSGU,
    "elman": Elman,
    "elstm": ELSTM,
    "fast_grnn": FastGRNN,
    "fast_rnn": FastRNN,
    "flax_gru": FlaxGRU,
    "gated_antisymmetric_rnn": GatedAntisymmetricRNN,
    "gru": GRU,
    "ind_rnn": IndRNN,
    "intersection_rnn": IntersectionRNN,
    "janet": JANET,
    "lem": LEM,
    "lem_stale": StaleLEM,
    "light_ru": LightRU,
    "ligru": LiGRU,
    "lstm": LSTM,
    "mclstm": MCLSTM,
    "mgu": MGU,
    "min_gru": MinGRU,
    "min_lstm": MinLSTM,
    "minimal_rnn": MinimalRNN,
    "miru1": MiRU1,
    "miru2": MiRU2,
    "multiplicative_lstm": MultiplicativeLSTM,
    "mut1": MUT1,
    "mut2": MUT2,
    "mut3": MUT3,
    "nas": NAS,
    "nbr": NBR,
    "original_lstm": OriginalLSTM,
    "para_gru": ParaGRU,
    "para_lstm": ParaLSTM,
    "peephole_lstm": PeepholeLSTM,
    "qlstm": QLSTM,
    "ran": RAN,
    "res_lstm": ResLSTM,
    "scrn": SCRN,
    "scrn_torchrecurrent": OutputSCRN,
    "sgrn": SGRN,
    "sgu": SGU,
    "slstm": SLSTM,
    "star": STAR,
    "t_gru": TGRU,
    "t_lstm": TLSTM,
    "t_rnn": TRNN,
    "tau_gru": TauGRU,
    "ug_rnn": UGRNN,
    "unicornn": UnICORNN,
    "wmclstm": WMCLSTM,
}

__all__ = ["CELLS", "Block", "Cell", "Dense", "Diagonal", "Heads", "RecurrentCell", "drop_connect"]
