"""The names that a pickle's verdict rests on.

They are this project's judgement of the standard library and of the packages that models are made with: what a
name does when a pickle calls it, whatever it is called with.
"""

from __future__ import annotations

import re

# Modules that run programs.
_PROGRAMS = """
    _posixsubprocess _thread asyncio commands multiprocessing nt os pip pipes platform popen2 posix pty signal
    subprocess torch.multiprocessing
"""
# Modules that run code, import modules or look names up.
_CODE = """
    _ctypes _frozen_importlib _frozen_importlib_external _imp bdb cffi cgitb cloudpickle code codeop cProfile
    ctypes dill distutils doctest ensurepip faulthandler idlelib imp importlib inspect IPython lib2to3
    logging.config mlflow.projects numba.core numpy.ctypeslib numpy.distutils numpy.f2py numpy.testing pdb
    pkg_resources pkgutil profile py_compile pydoc rlcompleter runpy setuptools site sys sysconfig timeit
    torch._dynamo torch._inductor torch.distributed torch.hub torch.utils._config_module torch.utils.collect_env
    torch.utils.cpp_extension trace venv zipapp zipimport
"""
# Modules that load further pickles.
_PICKLES = """
    _pickle marshal pickle shelve
"""
# Modules that reach files or the network.
_FILES = """
    _io aiohttp fileinput ftplib http httplib huggingface_hub imaplib io linecache mmap pandas.io poplib
    requests shutil smtplib socket socketserver sqlite3 ssl telnetlib transformers.utils.hub urllib urllib2
    urllib3 webbrowser winreg wsgiref xmlrpc
"""
DANGEROUS_MODULES = frozenset(f"{_PROGRAMS} {_CODE} {_PICKLES} {_FILES}".split())

# Single names that do the same in modules that are harmless otherwise.
DANGEROUS_NAMES = frozenset(
    """
    builtins.__import__ builtins.apply builtins.breakpoint builtins.compile builtins.delattr builtins.eval
    builtins.exec builtins.execfile builtins.file builtins.getattr builtins.globals builtins.help builtins.input
    builtins.locals builtins.open builtins.reload builtins.setattr builtins.vars joblib.load
    joblib.numpy_pickle.load joblib.numpy_pickle_compat.load_compatibility numpy.DataSource numpy.fromfile
    numpy.fromregex numpy.genfromtxt numpy.lib._npyio_impl.load numpy.lib.npyio.load numpy.load numpy.loadtxt
    numpy.memmap numpy.save numpy.savetxt operator.attrgetter operator.methodcaller pandas.eval pandas.read_csv
    pandas.read_pickle torch.classes.load_library torch.jit.load torch.load torch.ops.load_library torch.save
    torch.serialization.load types.CodeType types.FunctionType types.LambdaType
""".split()
)

# Names that only make data.
SAFE_NAMES = frozenset(
    """
    _codecs.encode builtins.bool builtins.bytearray builtins.bytes builtins.complex builtins.dict
    builtins.Ellipsis builtins.float builtins.frozenset builtins.int builtins.list builtins.NotImplemented
    builtins.object builtins.range builtins.set builtins.slice builtins.str builtins.tuple collections.Counter
    collections.defaultdict collections.deque collections.OrderedDict copyreg._reconstructor datetime.date
    datetime.datetime datetime.time datetime.timedelta datetime.timezone decimal.Decimal fractions.Fraction
    joblib.numpy_pickle.NumpyArrayWrapper numpy._core.multiarray._reconstruct numpy._core.multiarray.scalar
    numpy._core.numeric._frombuffer numpy.core.multiarray._reconstruct numpy.core.multiarray.scalar
    numpy.core.numeric._frombuffer numpy.dtype numpy.ma.core._mareconstruct numpy.ma.core.MaskedArray
    numpy.ma.MaskedArray numpy.matrix numpy.ndarray numpy.random._generator.Generator
    numpy.random._mt19937.MT19937 numpy.random._pcg64.PCG64 numpy.random._pickle.__bit_generator_ctor
    numpy.random._pickle.__generator_ctor numpy.random._pickle.__randomstate_ctor
    numpy.random.bit_generator.__pyx_unpickle_SeedSequence numpy.random.bit_generator.SeedSequence
    numpy.random.mtrand.RandomState pandas._libs.internals._unpickle_block
    pandas._libs.tslibs.timestamps._unpickle_timestamp pandas.core.indexes.base._new_Index
    scipy._lib.array_api_compat.numpy._aliases.asarray scipy.interpolate._bsplines.BSpline
    sklearn.cluster._kmeans._kmeans_single_elkan sklearn.cluster._kmeans._kmeans_single_lloyd
    sklearn.feature_selection._univariate_selection.chi2
    sklearn.feature_selection._univariate_selection.f_classif
    sklearn.feature_selection._univariate_selection.f_regression sklearn.metrics._dist_metrics.newObj
    sklearn.neighbors._ball_tree.newObj sklearn.neighbors._kd_tree.newObj
    sklearn.utils._metadata_requests.MetadataRequest sklearn.utils._metadata_requests.MethodMetadataRequest
    torch._tensor._rebuild_from_type_v2 torch._utils._rebuild_parameter
    torch._utils._rebuild_parameter_with_state torch._utils._rebuild_qtensor torch._utils._rebuild_sparse_tensor
    torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2 torch._utils._rebuild_tensor_v3 torch.device
    torch.dtype torch.nn.parameter.Parameter torch.serialization._get_layout torch.Size
    torch.storage.TypedStorage torch.storage.UntypedStorage torch.Tensor
""".split()
)
# Functions of one array, as FunctionTransformer keeps them.
SAFE_FUNCTIONS = re.compile(
    r"numpy(\._core\.umath|\.core\.umath)?\.(abs|absolute|arcsinh|cbrt|exp|expm1|log|log10|log1p|log2|mean|median|"
    r"reciprocal|sign|sin|cos|sqrt|square|tanh)"
)
# Classes by package: the packages whose classes' constructors and states are data, without the folders that test,
# download or show, and without what their modules import from elsewhere. A class has a capital letter and no dot.
SAFE_CLASSES = re.compile(
    r"(?!.*\.tests\.)(?!.*\.(ABCMeta|Memory|Parallel|Path|Popen|Thread|ThreadPool)$)"
    r"(sklearn\.(_loss|calibration|cluster|compose|covariance|cross_decomposition|decomposition|"
    r"discriminant_analysis|dummy|ensemble|feature_extraction|feature_selection|gaussian_process|impute|isotonic|"
    r"kernel_approximation|kernel_ridge|linear_model|manifold|metrics|mixture|model_selection|multiclass|multioutput|"
    r"naive_bayes|neighbors|neural_network|pipeline|preprocessing|random_projection|semi_supervised|svm|tree|"
    r"utils\._bunch)[\w.]*"
    r"|imblearn\.(combine|ensemble|over_sampling|pipeline|under_sampling)[\w.]*"
    r"|xgboost\.(core|sklearn)|lightgbm\.(basic|sklearn|compat)|catboost\.core"
    r"|pandas\.core\.(arrays|dtypes|frame|indexes|internals|series)[\w.]*|pandas\._libs\.tslibs\.\w+"
    r"|numpy\.dtypes)\._{0,2}[A-Z]\w*"
    r"|scipy\.sparse\.(_?\w+\.)?(bsr|coo|csc|csr|dia|dok|lil)_(matrix|array)"
    r"|(sklearn\._loss\.)?_loss\.(Cy|__pyx_unpickle_Cy)\w+"
    r"|numpy\.(u?int|float|complex)(8|16|32|64|128|256)|numpy\.(bool_?|str_|bytes_|object_|void|longdouble|intp)"
    r"|torch\.[A-Z]\w*Storage"
    r"|torch\.(float|double|half|bfloat16|float16|float32|float64|float8_\w+|u?int(8|16|32|64)|long|short|bool|"
    r"complex(32|64|128)|qu?int(8|32))"
)
