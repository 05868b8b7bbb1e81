/*
 * The rules that Depesche ships. Few and precise: a match drops the whole job. Own rules go into the directory named by the
 * setting scan.yara_rules. Every rule has a description for the person who reads the event.
 */

rule eicar_test_file
{
    meta:
        description = "The EICAR test file, by which scanners are tried out"
    strings:
        $eicar = { 58 35 4F 21 50 25 40 41 50 5B 34 5C 50 5A 58 35 34 28 50 5E 29 37 43 43 29 37 7D 24 45 49 43 41 52 2D 53 54 41 4E 44 41 52 44 2D 41 4E 54 49 56 49 52 55 53 2D 54 45 53 54 2D 46 49 4C 45 21 24 48 2B 48 2A }
    condition:
        $eicar
}

rule executable_with_a_document_name
{
    meta:
        description = "A program whose file name pretends to be a document (report.pdf.exe)"
    strings:
        $name = /name\*?[0-9]*\*?=\"?[^\"\r\n;]{1,200}\.(pdf|docx?|xlsx?|pptx?|txt|jpe?g|png|csv)[ _.]{1,40}(exe|scr|com|pif|bat|cmd|vbs|js|jse|wsf|hta|lnk)\"?[\r\n;]/ nocase
    condition:
        $name
}

rule office_macro_that_starts_a_program
{
    meta:
        description = "A document with a macro that runs by itself and starts a program"
    strings:
        $ole = { D0 CF 11 E0 A1 B1 1A E1 }
        $auto1 = "AutoOpen" nocase wide ascii
        $auto2 = "Document_Open" nocase wide ascii
        $auto3 = "Workbook_Open" nocase wide ascii
        $run1 = "WScript.Shell" nocase wide ascii
        $run2 = "powershell" nocase wide ascii
        $run3 = "URLDownloadToFile" nocase wide ascii
    condition:
        $ole at 0 and any of ($auto*) and any of ($run*)
}
