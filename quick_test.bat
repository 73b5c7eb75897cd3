@echo off
rem Does this checkout work here? Four stages in about a minute: the commands answer, the backends are checked, the
rem data is diagnosed, and a tiny model is trained, resumed and verified. The twin of quick_test.sh.
rem
rem   quick_test.bat               on data\HLBD_Hardcore_Full.json; all of data\ is diagnosed
rem   quick_test.bat my_data.json  on this HLBD file alone; a bare name is also looked for in data\
rem   set QUICK_TEST_DATA=my_data.json                the same
rem
rem It asks only for what is installed; the last line names the backends that were left out because they are not.
rem Exit code: 0 when all four pass, 1 when one fails, 2 when nothing could be tested. A failing stage shows the
rem command that failed and its last lines; the stages after it still run. Everything is written to a temporary
rem directory that is deleted at the end. PYTHON names the interpreter where there is no .venv.

setlocal EnableExtensions DisableDelayedExpansion

set "ROOT=%~dp0"
set "ROOT=%ROOT:~0,-1%"
if "%~1"=="--help" goto help
if "%~1"=="-h" goto help
if "%~1"=="/?" goto help
if not "%~2"=="" (
    echo quick_test: it takes one HLBD file at most ^(see --help^) 1>&2
    exit /b 2
)

set "PY=python"
if defined PYTHON set "PY=%PYTHON%"
if exist "%ROOT%\.venv\Scripts\python.exe" set "PY=%ROOT%\.venv\Scripts\python.exe"
"%PY%" -V >nul 2>&1
if errorlevel 1 (
    echo quick_test: there is no "%PY%"; make .venv as in README.md, or name an interpreter with PYTHON 1>&2
    exit /b 2
)

set "DATA="
set "GIVEN=%QUICK_TEST_DATA%"
if not "%~1"=="" set "GIVEN=%~1"
if not defined GIVEN goto data_known
if not exist "%GIVEN%" if exist "%ROOT%\data\%GIVEN%" set "GIVEN=%ROOT%\data\%GIVEN%"
if not exist "%GIVEN%" (
    echo quick_test: "%GIVEN%": no such data file; give an HLBD .json file 1>&2
    exit /b 2
)
rem From here on we are elsewhere.
for %%F in ("%GIVEN%") do set "DATA=%%~fF"
:data_known

set "WORK=%TEMP%\quick_test.%RANDOM%%RANDOM%"
mkdir "%WORK%" || exit /b 2
pushd "%WORK%"
set "LOG=%WORK%\output"
set "PYTHONUTF8=1"
rem PyTorch leaves a directory among the temporary files.
set "TEMP=%WORK%"
set "TMP=%WORK%"
set "FAILED_STAGES="
set "LEFT_OUT="
call :clock BEGAN

call :stage 1 "commands answer" commands_answer
call :stage 2 "backends check" backends_checked
call :stage 3 "HLBD data diagnosed" data_diagnosed
call :stage 4 "tiny train-resume-verify run" trained_resumed_verified

call :clock ENDED
set /a TOTAL=ENDED-BEGAN
popd
rmdir /s /q "%WORK%"
if defined FAILED_STAGES (
    echo quick_test: FAILED: %FAILED_STAGES:~2%
    exit /b 1
)
if defined LEFT_OUT set "LEFT_OUT=; left out, not installed:%LEFT_OUT%"
echo quick_test: all 4 stages passed in %TOTAL% s%LEFT_OUT%
exit /b 0

rem -- running a stage ------------------------------------------------------------------------------------------------

rem check COMMAND...: run it; keep its output in LOG, and its name in FAILING if it fails.
:check
%* >"%LOG%" 2>&1 <nul
set "CODE=%ERRORLEVEL%"
if "%CODE%"=="0" exit /b 0
set FAILING=exit code %CODE%: %*
exit /b 1

rem stage NUMBER NAME LABEL: one line that ends in PASS or FAIL, and what is to be known about it below.
:stage
set "FAILING="
type nul >"%LOG%"
type nul >"%WORK%\shown"
call :clock STARTED
<nul set /p "=[%~1/4] %~2 ... "
call :%~3
set "RESULT=%ERRORLEVEL%"
call :clock STOPPED
set /a SECONDS=STOPPED-STARTED
if "%RESULT%"=="0" (
    echo PASS ^(%SECONDS% s^)
    call :indented "      " "%WORK%\shown"
    exit /b 0
)
echo FAIL (%SECONDS% s)
echo       %FAILING%
call :indented "      | " "%LOG%"
set "FAILED_STAGES=%FAILED_STAGES%, %~2"
exit /b 0

rem clock VARIABLE: whole seconds on a clock.
:clock
"%PY%" -c "import time; print(int(time.time()))" >"%WORK%\clock"
set /p %~1=<"%WORK%\clock"
exit /b 0

rem indented PREFIX FILE: the last 20 lines of a file.
:indented
"%PY%" -c "import pathlib, sys; [print(sys.argv[1] + line) for line in pathlib.Path(sys.argv[2]).read_text('utf-8', 'replace').splitlines()[-20:]]" "%~1" "%~2"
exit /b 0

rem -- the four stages ------------------------------------------------------------------------------------------------

:commands_answer
for %%S in (train.py training\train.py training\train_hlbd_playground.py) do (
    call :check "%PY%" "%ROOT%\%%S" --help || exit /b 1
    call :check "%PY%" "%ROOT%\%%S" --dry-run || exit /b 1
)
call :check "%PY%" "%ROOT%\train.py" --list-backends || exit /b 1
for %%S in ("%ROOT%\tools\*.py") do (
    findstr /b /c:"if __name__" "%%~fS" >nul && ( call :check "%PY%" "%%~fS" --help || exit /b 1 )
)
exit /b 0

:backends_checked
call :check "%PY%" -c "import torch; print('torch', torch.__version__)" || exit /b 1
type "%LOG%" >>"%WORK%\shown"
call :check "%PY%" "%ROOT%\train.py" --list-backends || exit /b 1
type "%LOG%" >>"%WORK%\shown"
findstr /r /c:"^playground  *available" "%LOG%" >nul
if errorlevel 1 (
    set "FAILING=train.py --list-backends: playground is not available"
    exit /b 1
)
for /f "tokens=1" %%B in ('findstr /r /c:"^[a-z_]*  *not available " "%LOG%"') do call set "LEFT_OUT=%%LEFT_OUT%% %%B"
exit /b 0

:data_diagnosed
rem The user's own runs are not what is tested.
if not exist "%WORK%\no_runs" mkdir "%WORK%\no_runs"
if defined DATA (
    call :check "%PY%" "%ROOT%\tools\diagnose_issues.py" "%WORK%\no_runs" --datasets "%DATA%"
) else (
    call :check "%PY%" "%ROOT%\tools\diagnose_issues.py" "%WORK%\no_runs"
)
if errorlevel 1 goto data_at_fault
findstr /r /c:" ok, .* warnings, .* errors" "%LOG%" >"%WORK%\shown"
exit /b 0
:data_at_fault
rem The errors may stand far above the last lines. Without one in the output, it is the command that failed.
findstr /b /c:"  error " "%LOG%" >"%WORK%\errors" && copy /y "%WORK%\errors" "%LOG%" >nul
exit /b 1

rem train RUN_DIR FLAGS...: a model of 70,000 parameters on one thread, so that the same sums come out to the last bit.
:train
call :check "%PY%" "%ROOT%\train.py" --backend playground --datasets "%LEARNED%" --run-dir %* --d-model 64 --num-layers 1 --num-heads 4 --d-ff 128 --dropout 0.1 --batch-size 16 --device cpu --num-threads 1 --answer-samples 0
exit /b %ERRORLEVEL%

:trained_resumed_verified
set "LEARNED=%ROOT%\data\HLBD_Hardcore_Full.json"
if defined DATA set "LEARNED=%DATA%"
call :train "%WORK%\whole" --max-steps 24 || exit /b 1
call :train "%WORK%\parted" --max-steps 9 || exit /b 1
call :train "%WORK%\parted" --max-steps 24 --resume || exit /b 1
findstr /r /c:"^resumed from .* at step 9 of 24" "%LOG%" >nul
if errorlevel 1 (
    set "FAILING=train.py --resume: it did not go on at step 9"
    exit /b 1
)
set "PYTHONPATH=%ROOT%"
call :check "%PY%" -m tools.diagnosis.same_weights "%WORK%\parted\final_model.pt" "%WORK%\whole\final_model.pt"
set "RESULT=%ERRORLEVEL%"
set "PYTHONPATH="
if not "%RESULT%"=="0" exit /b 1
type "%LOG%" >>"%WORK%\shown"
call :check "%PY%" "%ROOT%\tools\verify_hlbd_model.py" --model "%WORK%\parted" --dataset "%LEARNED%" --sample 20 --device cpu || exit /b 1
exit /b 0

:help
echo Does this checkout work here? Four stages in about a minute: the commands answer, the backends are checked, the
echo data is diagnosed, and a tiny model is trained, resumed and verified.
echo.
echo   quick_test.bat               on data\HLBD_Hardcore_Full.json; all of data\ is diagnosed
echo   quick_test.bat my_data.json  on this HLBD file alone; a bare name is also looked for in data\
echo.
echo It asks only for what is installed; the last line names the backends that were left out because they are not.
echo QUICK_TEST_DATA can name the file too, PYTHON the interpreter where there is no .venv.
echo Exit code: 0 when all four pass, 1 when one fails, 2 when nothing could be tested.
exit /b 0
